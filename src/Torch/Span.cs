namespace Moe.Torch;

/// <summary>A span that is open; nothing where none is kept. To be disposed of on the thread that opened it, before the spans around it.</summary>
public readonly ref struct Span : IDisposable
{
    private readonly SpanRecording? _recording;
    private readonly int _index;

    internal Span(SpanRecording recording, int index) => (_recording, _index) = (recording, index);

    /// <summary>Closes the span.</summary>
    public void Dispose() => _recording?.Close(_index);
}
