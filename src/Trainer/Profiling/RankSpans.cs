using System.Text;
using Moe.Torch;

namespace Moe.Training.Profiling;

/// <summary>A rank's recording as the bytes that travel to the first rank.</summary>
internal static class RankSpans
{
    public static byte[] ToBytes(RecordedSpans recorded)
    {
        using var stream = new MemoryStream();
        using var writer = new BinaryWriter(stream, Encoding.UTF8);
        writer.Write(recorded.Spans.Count);
        foreach (var span in recorded.Spans)
        {
            writer.Write(span.Name);
            writer.Write((byte)span.Kind);
            Write(writer, span.Layer);
            writer.Write(span.Parent);
            writer.Write(span.Thread);
            writer.Write(span.Begin);
            writer.Write(span.End);
            writer.Write(span.Waiting);
            writer.Write(span.DeviceBegin);
            writer.Write(span.DeviceEnd);
        }

        writer.Write(recorded.Beside.Count);
        foreach (var transfer in recorded.Beside)
        {
            writer.Write(transfer.Name);
            writer.Write(transfer.Purpose);
            Write(writer, transfer.Layer);
            writer.Write(transfer.Bytes);
            writer.Write(transfer.Begin);
            writer.Write(transfer.End);
        }

        writer.Flush();
        return stream.ToArray();
    }

    public static RecordedSpans Read(byte[] bytes)
    {
        using var reader = new BinaryReader(new MemoryStream(bytes), Encoding.UTF8);
        var spans = new RecordedSpan[reader.ReadInt32()];
        for (var i = 0; i < spans.Length; i++)
        {
            spans[i] = new RecordedSpan(
                reader.ReadString(), (SpanKind)reader.ReadByte(), Layer(reader), reader.ReadInt32(), reader.ReadInt32(),
                reader.ReadDouble(), reader.ReadDouble(), reader.ReadDouble(), reader.ReadDouble(), reader.ReadDouble());
        }

        var beside = new RecordedTransfer[reader.ReadInt32()];
        for (var i = 0; i < beside.Length; i++)
        {
            beside[i] = new RecordedTransfer(
                reader.ReadString(), reader.ReadString(), Layer(reader), reader.ReadInt64(), reader.ReadDouble(), reader.ReadDouble());
        }

        return new RecordedSpans(spans, beside);
    }

    private static void Write(BinaryWriter writer, int? layer) => writer.Write(layer ?? -1);

    private static int? Layer(BinaryReader reader) => reader.ReadInt32() is >= 0 and var layer ? layer : null;
}
