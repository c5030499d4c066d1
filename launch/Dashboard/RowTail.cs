using System.Text.Json;

namespace Moe.Launch.Dashboard;

/// <summary>The last rows of a file of JSON lines, without reading what is before them.</summary>
internal static class RowTail
{
    private const int Chunk = 1 << 20;

    /// <summary>The last whole rows, newest first; what is no JSON is passed over. A row longer than 1 MiB is not found.</summary>
    public static IEnumerable<JsonElement> NewestFirst(Stream? stream)
    {
        if (stream is null)
        {
            yield break;
        }

        using (stream)
        {
            var bytes = new byte[Math.Min(Chunk, stream.Length)];
            stream.Seek(-bytes.Length, SeekOrigin.End);
            var length = stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
            var end = bytes.AsSpan(0, length).LastIndexOf((byte)'\n');
            while (end > 0)
            {
                var start = bytes.AsSpan(0, end).LastIndexOf((byte)'\n') + 1;
                if (Parse(bytes.AsMemory(start, end - start)) is { } row)
                {
                    yield return row;
                }

                end = start - 1;
            }
        }
    }

    private static JsonElement? Parse(ReadOnlyMemory<byte> line)
    {
        try
        {
            return JsonDocument.Parse(line).RootElement is { ValueKind: JsonValueKind.Object } row ? row : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
