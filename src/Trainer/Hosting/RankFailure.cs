using System.Text.Json;

namespace Moe.Training.Hosting;

/// <summary>A rank's account of its own end, sent to the launcher and kept as errors/rank_N.json in the run folder.</summary>
/// <param name="Rank">World rank.</param>
/// <param name="Step">Number of the step under way; 0 before the first.</param>
/// <param name="ExitCode">The code that the rank leaves with, see <see cref="ExitCodes"/>.</param>
/// <param name="What">What failed, in one line.</param>
/// <param name="Where">The part of the work that was under way: operation, layer, file; null where nothing closer is known.</param>
/// <param name="Why">The cause with its numbers; null where <paramref name="What"/> says it already.</param>
/// <param name="Try">What the user can do; null where nothing is known to help.</param>
/// <param name="Secondary">True where the rank only noticed that another one had gone: it died of a broken collective.</param>
public sealed record RankFailure(
    int Rank,
    long Step,
    int ExitCode,
    string What,
    string? Where = null,
    string? Why = null,
    string? Try = null,
    bool Secondary = false)
{
    /// <summary>In place of a rank where the launcher itself found that the run cannot go on.</summary>
    public const int OfLauncher = -1;

    /// <summary>The exception with its stack; null where there was none. The console shows it only on request.</summary>
    public string? Stack { get; init; }

    /// <summary>Writes the account as JSON, by way of a temporary file, so that no reader sees half of it.</summary>
    /// <param name="path">The file, whose folder is made where it is missing.</param>
    /// <exception cref="DirectoryNotFoundException">The run folder itself is missing: somebody deleted it, and it must not come back.</exception>
    public void Write(string path)
    {
        var folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        if (!Directory.Exists(Path.GetDirectoryName(folder)))
        {
            throw new DirectoryNotFoundException($"the run folder '{Path.GetDirectoryName(folder)}' is gone");
        }

        Directory.CreateDirectory(folder);
        var aside = path + ".tmp";
        File.WriteAllBytes(aside, JsonSerializer.SerializeToUtf8Bytes(this, ControlJson.Default.RankFailure));
        File.Move(aside, path, overwrite: true);
    }

    /// <summary>Reads an account written by <see cref="Write"/>.</summary>
    /// <exception cref="JsonException">The file holds something else.</exception>
    public static RankFailure Read(string path)
    {
        using var stream = File.OpenRead(path);
        return Read(stream);
    }

    /// <inheritdoc cref="Read(string)"/>
    public static RankFailure Read(Stream stream) =>
        JsonSerializer.Deserialize(stream, ControlJson.Default.RankFailure) ?? throw new JsonException("The file holds no failure report.");
}
