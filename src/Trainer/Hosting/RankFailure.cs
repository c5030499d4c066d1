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
    /// <summary>Writes the account as JSON, by way of a temporary file, so that no reader sees half of it.</summary>
    /// <param name="path">The file, whose folder is made where it is missing.</param>
    public void Write(string path)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
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
