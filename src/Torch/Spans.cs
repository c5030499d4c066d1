using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>
/// Where the parts of a step say when they begin and end. While no <see cref="SpanRecording"/> is on, that is one look at a field: nothing is allocated, nothing kept.
/// </summary>
/// <remarks>
/// A recording is the process's, not a thread's, since backward runs on a thread of libtorch's own on a GPU. What a part computes by recorded operators or by
/// a <see cref="Function"/> is watched: its backward makes a span of the same name by itself.
/// </remarks>
public static class Spans
{
    /// <summary>Whether spans are kept.</summary>
    public static bool IsOn => Recording is not null;

    internal static SpanRecording? Recording { get; set; }

    /// <summary>Opens a span of one part of the work, which is closed by disposing of it on the same thread.</summary>
    /// <param name="name">What is done; the same for all that is to be added up.</param>
    /// <param name="layer">Of the model; left out, that of the span around it.</param>
    public static Span Open(string name, int? layer = null) => Recording is { } recording ? recording.Open(name, layer, SpanKind.Part) : default;

    /// <summary>Opens a span of the backward of a part, where that is not a node of its own.</summary>
    /// <param name="name">As of the part.</param>
    public static Span OpenBackward(string name) => Recording is { } recording ? recording.Open(name, null, SpanKind.Backward) : default;

    /// <summary>Opens a span that only holds others: what it does beside them has no name of its own.</summary>
    /// <param name="name">What is done.</param>
    /// <param name="layer">Of the model; left out, that of the span around it.</param>
    public static Span Phase(string name, int? layer = null) => Recording is { } recording ? recording.Open(name, layer, SpanKind.Phase) : default;

    /// <summary>Counts time that the thread was blocked for others, to the innermost span that is open.</summary>
    public static void AddWaiting(TimeSpan time) => Recording?.AddWaiting(time);

    /// <summary>Keeps something that ran beside the spans and has just ended.</summary>
    /// <param name="name">What it was, as in <c>all_to_all</c>.</param>
    /// <param name="purpose">What for; may be empty.</param>
    /// <param name="layer">Of the model; null for none.</param>
    /// <param name="bytes">That it moved.</param>
    /// <param name="begun">When, as <see cref="System.Diagnostics.Stopwatch.GetTimestamp"/> says it.</param>
    public static void AddBeside(string name, string purpose, int? layer, long bytes, long begun) =>
        Recording?.AddBeside(name, purpose, layer, bytes, begun);

    /// <summary>The same of something that ran on the device between two marks, both of which it has passed.</summary>
    /// <param name="name">What it was.</param>
    /// <param name="purpose">What for; may be empty.</param>
    /// <param name="layer">Of the model; null for none.</param>
    /// <param name="bytes">That it moved.</param>
    /// <param name="begin">Before it.</param>
    /// <param name="end">Behind it.</param>
    public static void AddBeside(string name, string purpose, int? layer, long bytes, CudaEvent begin, CudaEvent end) =>
        Recording?.AddBeside(name, purpose, layer, bytes, begin, end);

    /// <summary>Has the backward of what made a tensor become a span of the part that is open.</summary>
    internal static void Watch(nint handle)
    {
        if (handle != 0)
        {
            Recording?.Watch(handle);
        }
    }

    internal static unsafe void Watch(NativeValue* results, int count)
    {
        for (var i = 0; i < count; i++)
        {
            if (results[i].Tag == ArgumentTag.Tensor)
            {
                Watch((nint)results[i].Bits);
            }
        }
    }
}
