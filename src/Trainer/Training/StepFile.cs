using System.Text.Json;

namespace Moe.Training;

/// <summary>A file of JSON lines, each with its <c>step</c>, that grows as a run goes on. A line is on the disk's way before the next is written.</summary>
public sealed class StepFile : IDisposable
{
    private readonly FileStream _stream;
    private readonly MemoryStream _line = new();

    /// <summary>Opens the file to append to it.</summary>
    /// <param name="path">Made where it is missing.</param>
    /// <param name="lastStep">Lines of later steps are removed: a run that resumes from an older checkpoint goes through them again.</param>
    public StepFile(string path, long lastStep)
    {
        _stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
        _stream.SetLength(LengthUpTo(lastStep));
        _stream.Seek(0, SeekOrigin.End);
    }

    /// <summary>Appends a line.</summary>
    /// <param name="write">Writes the members of its object.</param>
    public void Append(Action<Utf8JsonWriter> write)
    {
        _line.SetLength(0);
        using (var json = new Utf8JsonWriter(_line))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        _line.WriteByte((byte)'\n');
        _stream.Write(_line.GetBuffer(), 0, (int)_line.Length);
        _stream.Flush();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _stream.Dispose();
        _line.Dispose();
    }

    // Read by lines, as the file may be larger than memory. Behind the last row that is kept may be what a killed run or a power cut left; a line before it that can't be
    // read stays where it is, since the rows behind it are whole.
    private long LengthUpTo(long lastStep)
    {
        var kept = 0L;
        var lines = new JsonLines(_stream);
        while (lines.Next() is { } line)
        {
            var step = StepOf(line);
            if (step > lastStep)
            {
                break;
            }

            kept = step is null ? kept : lines.Consumed;
        }

        return kept;
    }

    private static long? StepOf(ReadOnlyMemory<byte> line)
    {
        try
        {
            using var row = JsonDocument.Parse(line);
            return row.RootElement.TryGetProperty("step", out var step) ? step.GetInt64() : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException) // no row of ours
        {
            return null;
        }
    }
}
