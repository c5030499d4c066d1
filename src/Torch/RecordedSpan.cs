namespace Moe.Torch;

/// <summary>What a span stands for.</summary>
public enum SpanKind
{
    /// <summary>One part of the work.</summary>
    Part,

    /// <summary>The backward of one node of the graph, of the part that made it.</summary>
    Backward,

    /// <summary>A frame around others.</summary>
    Phase,
}

/// <summary>A span of a recording. Times are microseconds since its beginning.</summary>
/// <param name="Name">What was done.</param>
/// <param name="Kind">What that stands for.</param>
/// <param name="Layer">Of the model; null outside the layers.</param>
/// <param name="Parent">Index of the span around it; -1 for none. It is smaller than its own.</param>
/// <param name="Thread">0 for the thread that began the recording, and then by appearance.</param>
/// <param name="Begin">On the host.</param>
/// <param name="End">On the host.</param>
/// <param name="Waiting">Microseconds of it in which the thread was blocked for other ranks, without the spans inside.</param>
/// <param name="DeviceBegin">When the device came to what the span queued; NaN without a device.</param>
/// <param name="DeviceEnd">When the device was done with it; NaN without a device.</param>
public readonly record struct RecordedSpan(
    string Name, SpanKind Kind, int? Layer, int Parent, int Thread, double Begin, double End, double Waiting, double DeviceBegin, double DeviceEnd);

/// <summary>Something that ran beside the spans, such as a collective. Times are microseconds since the recording's beginning.</summary>
/// <param name="Name">What it was.</param>
/// <param name="Purpose">What for; may be empty.</param>
/// <param name="Layer">Of the model; null for none.</param>
/// <param name="Bytes">That it moved.</param>
/// <param name="Begin">When it was started.</param>
/// <param name="End">When it was seen to be done.</param>
public readonly record struct RecordedTransfer(string Name, string Purpose, int? Layer, long Bytes, double Begin, double End);

/// <summary>All that a recording kept.</summary>
/// <param name="Spans">In the order of their opening.</param>
/// <param name="Beside">In the order in which they were seen to end.</param>
public sealed record RecordedSpans(IReadOnlyList<RecordedSpan> Spans, IReadOnlyList<RecordedTransfer> Beside);
