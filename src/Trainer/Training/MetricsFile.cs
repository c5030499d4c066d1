using System.Text;
using System.Text.Json;

namespace Moe.Training;

/// <summary>metrics.jsonl: one JSON object a row, its keys with their units in the name. A row is on the disk's way before the next is written.</summary>
public sealed class MetricsFile : IDisposable
{
    private readonly FileStream _stream;

    /// <summary>Opens the file to append to it.</summary>
    /// <param name="path">Made where it is missing.</param>
    /// <param name="lastStep">Rows of later steps are removed: a run that resumes from an older checkpoint goes through them again.</param>
    public MetricsFile(string path, long lastStep)
    {
        _stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
        _stream.SetLength(LengthUpTo(lastStep));
        _stream.Seek(0, SeekOrigin.End);
    }

    /// <summary>Appends a row; a value that is no number is written as null, since JSON has none.</summary>
    public void Append(IReadOnlyDictionary<string, double> row)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            foreach (var (key, value) in row)
            {
                if (!double.IsFinite(value))
                {
                    json.WriteNull(key);
                }
                else if (value == Math.Floor(value) && Math.Abs(value) < 1L << 53)
                {
                    json.WriteNumber(key, (long)value);
                }
                else
                {
                    json.WriteNumber(key, value);
                }
            }

            json.WriteEndObject();
        }

        buffer.WriteByte((byte)'\n');
        _stream.Write(buffer.GetBuffer(), 0, (int)buffer.Length);
        _stream.Flush();
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    // A half-written last line, of a killed run, ends the part that is kept.
    private long LengthUpTo(long lastStep)
    {
        using var reader = new StreamReader(_stream, Encoding.UTF8, leaveOpen: true);
        var text = reader.ReadToEnd();
        var kept = 0;
        while (text.IndexOf('\n', kept) is var end and >= 0)
        {
            try
            {
                using var row = JsonDocument.Parse(text.AsMemory(kept, end - kept));
                if (!row.RootElement.TryGetProperty("step", out var step) || step.GetInt64() > lastStep)
                {
                    break;
                }
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException) // no row of ours
            {
                break;
            }

            kept = end + 1;
        }

        return Encoding.UTF8.GetByteCount(text.AsSpan(0, kept));
    }
}
