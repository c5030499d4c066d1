using System.Text.Json;
using Moe.Torch;

namespace Moe.Training.Profiling;

/// <summary>Writes recordings of all ranks as one file in Chrome's trace format, which chrome://tracing and Perfetto draw: a process a rank, its lines below.</summary>
/// <remarks>
/// A rank has a line for each host thread that opened spans, one for its device, and as many for collectives as ran at once. Times are microseconds since
/// the barrier at which all ranks began.
/// </remarks>
internal static class ChromeTrace
{
    private const int DeviceLine = 100;
    private const int FirstCollectiveLine = 200;

    /// <param name="stream">Takes the file.</param>
    /// <param name="ranks">By rank.</param>
    public static void Write(Stream stream, IReadOnlyList<RecordedSpans> ranks)
    {
        using var json = new Utf8JsonWriter(stream);
        json.WriteStartObject();
        json.WriteString("displayTimeUnit", "ms");
        json.WriteStartArray("traceEvents");
        for (var rank = 0; rank < ranks.Count; rank++)
        {
            WriteName(json, "process_name", rank, 0, FormattableString.Invariant($"rank {rank}"));
            json.WriteStartObject();
            WriteHead(json, "process_sort_index", "M", rank, 0);
            json.WriteStartObject("args");
            json.WriteNumber("sort_index", rank);
            json.WriteEndObject();
            json.WriteEndObject();
            WriteSpans(json, rank, ranks[rank].Spans);
            WriteCollectives(json, rank, ranks[rank].Beside);
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>What a span is called in the trace.</summary>
    public static string NameOf(RecordedSpan span) => span.Kind == SpanKind.Backward ? span.Name + " backward" : span.Name;

    private static void WriteSpans(Utf8JsonWriter json, int rank, IReadOnlyList<RecordedSpan> spans)
    {
        foreach (var thread in spans.Select(span => span.Thread).Distinct().Order())
        {
            WriteName(json, "thread_name", rank, thread, thread == 0 ? "host" : "host, autograd");
        }

        if (spans.Any(span => double.IsFinite(span.DeviceEnd)))
        {
            WriteName(json, "thread_name", rank, DeviceLine, "device");
        }

        foreach (var span in spans)
        {
            WriteSpan(json, rank, span.Thread, span, span.Begin, span.End, span.Waiting);
            if (double.IsFinite(span.DeviceEnd))
            {
                WriteSpan(json, rank, DeviceLine, span, span.DeviceBegin, span.DeviceEnd, 0);
            }
        }
    }

    private static void WriteSpan(Utf8JsonWriter json, int rank, int line, RecordedSpan span, double begin, double end, double waiting)
    {
        json.WriteStartObject();
        WriteHead(json, NameOf(span), "X", rank, line);
        json.WriteString("cat", span.Kind switch { SpanKind.Backward => "backward", SpanKind.Phase => "phase", _ => "part" });
        WriteTimes(json, begin, end);
        json.WriteStartObject("args");
        WriteLayer(json, span.Layer);
        if (waiting > 0)
        {
            json.WriteNumber("waiting_us", Math.Round(waiting, 3));
        }

        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteCollectives(Utf8JsonWriter json, int rank, IReadOnlyList<RecordedTransfer> transfers)
    {
        List<double> lines = []; // of each, the end of its last collective
        foreach (var transfer in transfers.OrderBy(transfer => transfer.Begin))
        {
            var line = lines.FindIndex(end => end <= transfer.Begin);
            if (line < 0)
            {
                line = lines.Count;
                lines.Add(0);
                WriteName(json, "thread_name", rank, FirstCollectiveLine + line, line == 0 ? "collectives" : FormattableString.Invariant($"collectives {line + 1}"));
            }

            lines[line] = transfer.End;
            json.WriteStartObject();
            WriteHead(json, transfer.Name, "X", rank, FirstCollectiveLine + line);
            json.WriteString("cat", "collective");
            WriteTimes(json, transfer.Begin, transfer.End);
            json.WriteStartObject("args");
            WriteLayer(json, transfer.Layer);
            json.WriteString("purpose", transfer.Purpose);
            json.WriteNumber("bytes", transfer.Bytes);
            json.WriteEndObject();
            json.WriteEndObject();
        }
    }

    private static void WriteName(Utf8JsonWriter json, string kind, int rank, int line, string name)
    {
        json.WriteStartObject();
        WriteHead(json, kind, "M", rank, line);
        json.WriteStartObject("args");
        json.WriteString("name", name);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void WriteHead(Utf8JsonWriter json, string name, string phase, int rank, int line)
    {
        json.WriteString("name", name);
        json.WriteString("ph", phase);
        json.WriteNumber("pid", rank);
        json.WriteNumber("tid", line);
    }

    // To the nanosecond; the end is rounded, not the length, so that spans stay within those around them.
    private static void WriteTimes(Utf8JsonWriter json, double begin, double end)
    {
        var start = Math.Round(begin, 3);
        json.WriteNumber("ts", start);
        json.WriteNumber("dur", Math.Round(Math.Round(end, 3) - start, 3));
    }

    private static void WriteLayer(Utf8JsonWriter json, int? layer)
    {
        if (layer is { } number)
        {
            json.WriteNumber("layer", number);
        }
    }
}
