using System.Text.Json;

namespace Moe.Training.Tracking;

/// <summary>A whole line of the journal.</summary>
/// <param name="Entry">Null where the line is damaged.</param>
/// <param name="Start">Bytes before it.</param>
/// <param name="End">Bytes up to the end of it.</param>
internal readonly record struct JournalLine(JournalEntry? Entry, long Start, long End);

/// <summary>Reads a journal that another thread or process may be writing.</summary>
internal static class JournalReader
{
    private const int PieceLength = 1 << 18;

    /// <summary>Some whole lines, at least one where there is one.</summary>
    /// <param name="path">The journal; it may be missing.</param>
    /// <param name="from">Bytes to pass over, the end of a line.</param>
    public static IReadOnlyList<JournalLine> Some(string path, long from)
    {
        if (!File.Exists(path))
        {
            return [];
        }

        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        for (var length = PieceLength; ; length *= 2)
        {
            var left = stream.Length - from;
            if (left <= 0)
            {
                return [];
            }

            stream.Seek(from, SeekOrigin.Begin);
            var piece = new byte[Math.Min(left, length)];
            piece = piece[..stream.ReadAtLeast(piece, piece.Length, throwOnEndOfStream: false)];
            if (Lines(piece, from) is { Count: > 0 } lines)
            {
                return lines;
            }

            if (left <= length)
            {
                return []; // half a line
            }
        }
    }

    /// <summary>All whole lines, read piece by piece.</summary>
    public static IEnumerable<JournalLine> All(string path, long from = 0)
    {
        while (Some(path, from) is { Count: > 0 } lines)
        {
            foreach (var line in lines)
            {
                yield return line;
            }

            from = lines[^1].End;
        }
    }

    private static List<JournalLine> Lines(byte[] piece, long from)
    {
        var lines = new List<JournalLine>();
        var start = 0;
        while (Array.IndexOf(piece, (byte)'\n', start) is var end and >= 0)
        {
            lines.Add(new JournalLine(Parse(piece.AsSpan(start, end - start)), from + start, from + end + 1));
            start = end + 1;
        }

        return lines;
    }

    private static JournalEntry? Parse(ReadOnlySpan<byte> line)
    {
        try
        {
            return JsonSerializer.Deserialize(line, MlflowJson.Default.JournalEntry);
        }
        catch (Exception e) when (e is JsonException or NotSupportedException) // damaged by a power cut, or of a kind that is not ours
        {
            return null;
        }
    }
}
