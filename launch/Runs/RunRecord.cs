using System.Text.Json;
using System.Text.Json.Serialization;
using Moe.Training.Checkpoints;

namespace Moe.Launch.Runs;

/// <summary>run.json: the state of a run for scripts and people.</summary>
/// <param name="Id">Name of the run, unique on this machine.</param>
/// <param name="Status"><c>starting</c>, <c>running</c>, <c>stopping</c>, <c>done</c>, <c>stopped</c>, <c>failed</c>, <c>interrupted</c> (a second signal) or <c>abandoned</c> (found without its launcher).</param>
/// <param name="Mode"><c>train</c>, <c>verify</c> or <c>bench</c>.</param>
/// <param name="Backend"><c>mpi</c>, <c>gloo</c> or <c>nccl</c>.</param>
/// <param name="Nodes">Groups of ranks.</param>
/// <param name="ProcsPerNode">Ranks of a group.</param>
/// <param name="WorldSize">Ranks in all.</param>
/// <param name="LauncherPid">Process id of the launcher.</param>
/// <param name="Host">Machine of the launcher.</param>
/// <param name="Start">When this attempt started, UTC.</param>
/// <param name="Attempt">1, and one more for each time that the folder was continued.</param>
internal sealed record RunRecord(
    string Id,
    string Status,
    string Mode,
    string Backend,
    int Nodes,
    int ProcsPerNode,
    int WorldSize,
    int LauncherPid,
    string Host,
    DateTime Start,
    int Attempt)
{
    /// <summary>Names of the machines, node by node; null where all ranks are on <see cref="Host"/>.</summary>
    public IReadOnlyList<string>? Hosts { get; init; }

    /// <summary>The Slurm job, of an array <c>17_3</c>; null outside of Slurm.</summary>
    public string? SlurmJob { get; init; }

    /// <summary>The mesh in words; null until the ranks have built it.</summary>
    public string? Mesh { get; init; }

    /// <summary>Size of the model; null until the ranks have built it.</summary>
    public ParameterCount? Parameters { get; init; }

    /// <summary>Folder of the checkpoint continued from; null for a fresh start.</summary>
    public string? ResumedFrom { get; init; }

    /// <summary>When the last rank was gone, UTC; null while the run lasts.</summary>
    public DateTime? End { get; init; }

    /// <summary>The launcher's exit code; null while the run lasts.</summary>
    public int? ExitCode { get; init; }

    /// <summary>Writes the record so that a reader always finds a whole one, after a power cut too.</summary>
    public void Write(string path) => Durable.WriteAllBytes(path, [.. JsonSerializer.SerializeToUtf8Bytes(this, RunJson.Default.RunRecord), (byte)'\n']);

    /// <summary>Reads a record.</summary>
    /// <returns>Null where there is none that can be read; <see cref="IsDamaged"/> tells the two apart.</returns>
    public static RunRecord? Read(string path)
    {
        try
        {
            return File.Exists(path) ? JsonSerializer.Deserialize(File.ReadAllBytes(path), RunJson.Default.RunRecord) : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    /// <summary>Whether there is a file, but no record in it.</summary>
    public static bool IsDamaged(string path) => File.Exists(path) && Read(path) is null;
}

/// <summary>Logical parameters of a model, each counted once.</summary>
/// <param name="Total">All of them.</param>
/// <param name="Active">Those that one token passes through.</param>
internal sealed record ParameterCount(long Total, long Active);

/// <summary>One line of events.jsonl.</summary>
/// <param name="Time">UTC.</param>
/// <param name="Kind">One word.</param>
/// <param name="Step">Steps done, where that is known.</param>
/// <param name="Text">For a reader.</param>
internal sealed record RunEvent(DateTime Time, string Kind, long? Step, string Text);

/// <summary>Serialisers of the run folder's files, made at compile time.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(RunRecord))]
[JsonSerializable(typeof(RunEvent))]
internal sealed partial class RunJson : JsonSerializerContext;
