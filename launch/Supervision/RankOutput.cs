using System.Text;

namespace Moe.Launch.Supervision;

/// <summary>Reads rank logs for the failure report.</summary>
internal static class RankOutput
{
    private const int TailBytes = 16 * 1024;

    /// <summary>The last lines of a log that say something; none where there is no log.</summary>
    /// <param name="path">The log.</param>
    /// <param name="count">At most so many.</param>
    public static IReadOnlyList<string> LastLines(string path, int count)
    {
        if (!File.Exists(path))
        {
            return [];
        }

        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        file.Seek(-Math.Min(TailBytes, file.Length), SeekOrigin.End);
        using var reader = new StreamReader(file, Encoding.UTF8);
        return [.. reader.ReadToEnd().Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).TakeLast(count)];
    }
}
