using System.Text.Json;
using System.Text.Json.Serialization;

namespace Moe.Launch.Sweeps;

/// <summary>sweep.json: the state of a sweep for scripts and for the command that continues it.</summary>
/// <param name="Name">Name of the sweep.</param>
/// <param name="Status"><c>running</c>, <c>done</c>, <c>stopped</c>, <c>failed</c> or <c>interrupted</c>.</param>
/// <param name="Config">The configuration file, as the user named it.</param>
/// <param name="Overrides">What <c>--set</c> gave all points.</param>
/// <param name="Nodes">Groups of ranks of each run.</param>
/// <param name="ProcsPerNode">Ranks of a group.</param>
/// <param name="Backend"><c>mpi</c> or <c>gloo</c>.</param>
/// <param name="Metric">Key of metrics.jsonl that ranks the points.</param>
/// <param name="Goal"><c>min</c> or <c>max</c>.</param>
/// <param name="LauncherPid">Process id of the sweep's launcher.</param>
/// <param name="Host">Its machine.</param>
/// <param name="Start">When this attempt started, UTC.</param>
/// <param name="Points">Every run.</param>
internal sealed record SweepRecord(
    string Name,
    string Status,
    string Config,
    IReadOnlyList<string> Overrides,
    int Nodes,
    int ProcsPerNode,
    string Backend,
    string Metric,
    string Goal,
    int LauncherPid,
    string Host,
    DateTime Start,
    IReadOnlyList<PointRecord> Points)
{
    /// <summary>When the last run had ended, UTC; null while the sweep lasts.</summary>
    public DateTime? End { get; init; }

    /// <summary>The sweep's exit code; null while it lasts.</summary>
    public int? ExitCode { get; init; }

    /// <summary>The tracker's run that all runs of the sweep belong to; null where nothing is tracked.</summary>
    public string? ParentRunId { get; init; }

    /// <summary>Groups of points that differ by the seed alone, the best first; only there once a point has finished.</summary>
    public IReadOnlyList<GroupResult>? Results { get; init; }

    /// <summary>Writes the record aside and renames it, so that a reader always finds a whole one.</summary>
    public void Write(string path)
    {
        var aside = path + ".tmp";
        File.WriteAllText(aside, JsonSerializer.Serialize(this, SweepJson.Default.SweepRecord) + "\n");
        File.Move(aside, path, overwrite: true);
    }

    /// <summary>Reads a record.</summary>
    /// <returns>Null where there is none that can be read.</returns>
    public static SweepRecord? Read(string path)
    {
        try
        {
            return File.Exists(path) ? JsonSerializer.Deserialize(File.ReadAllBytes(path), SweepJson.Default.SweepRecord) : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}

/// <summary>One run of a sweep.</summary>
/// <param name="Name">The point in words; also the run folder's name.</param>
/// <param name="Group">The same without the seed.</param>
/// <param name="Choices">Value by key.</param>
/// <param name="Seed">Null where the sweep names none.</param>
/// <param name="Status"><c>waiting</c>, <c>running</c>, <c>done</c>, <c>stopped</c> or <c>failed</c>.</param>
internal sealed record PointRecord(string Name, string Group, IReadOnlyDictionary<string, string> Choices, ulong? Seed, string Status)
{
    /// <summary>The last exit code of its launcher; null before.</summary>
    public int? ExitCode { get; init; }

    /// <summary>Steps done.</summary>
    public long Step { get; init; }

    /// <summary>Seconds that its launchers have run, over all attempts of this sweep.</summary>
    public double Seconds { get; init; }

    /// <summary>Last training loss; null before the first row.</summary>
    public double? Loss { get; init; }

    /// <summary>Last value of the sweep's metric; null where no row has it.</summary>
    public double? Value { get; init; }

    /// <summary>Why it failed, in one line; null where it did not.</summary>
    public string? Error { get; init; }
}

/// <summary>What the finished runs of a group came to.</summary>
/// <param name="Group">The point without the seed.</param>
/// <param name="Runs">Finished runs that have the metric.</param>
/// <param name="Mean">Of the metric's last value over the runs.</param>
/// <param name="Deviation">Standard deviation over the runs (n - 1); null for fewer than two.</param>
/// <param name="Least">Smallest.</param>
/// <param name="Most">Largest.</param>
internal sealed record GroupResult(string Group, int Runs, double Mean, double? Deviation, double Least, double Most);

/// <summary>Serialisers of sweep.json, made at compile time.</summary>
[JsonSourceGenerationOptions(
    WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals)]
[JsonSerializable(typeof(SweepRecord))]
internal sealed partial class SweepJson : JsonSerializerContext;
