using System.Text.Json;
using Moe.Training.Checkpoints;

namespace Moe.Training.Tracking;

/// <summary>mlflow.json: which MLflow run a run folder is told to, and how far.</summary>
/// <param name="Uri">Of the server or the file store, without credentials.</param>
/// <param name="Experiment">Its name, or its id where the user gave that; empty where the user named a run.</param>
/// <param name="RunName">Name of the run.</param>
/// <param name="Mark">Text that no other run has: it finds the run on the server where the answer to its making was lost.</param>
/// <param name="StartTime">Milliseconds since 1970, UTC.</param>
public sealed record TrackingState(string Uri, string Experiment, string RunName, string Mark, long StartTime)
{
    /// <summary>The server's id of the experiment; null until it is known.</summary>
    public string? ExperimentId { get; init; }

    /// <summary>The server's id of the run; null until it is made.</summary>
    public string? RunId { get; init; }

    /// <summary>Where the server wants the run's files; null until the run is made.</summary>
    public string? ArtifactUri { get; init; }

    /// <summary>The run that this one is shown under; null for none.</summary>
    public string? ParentRunId { get; init; }

    /// <summary>Whether the server was asked to make the run and has not answered yet.</summary>
    public bool Creating { get; init; }

    /// <summary>Bytes of the journal that the server has.</summary>
    public long Synced { get; init; }

    /// <summary>Bytes of the journal that the server may have: those up to here were on their way when this was written.</summary>
    public long Sending { get; init; }

    /// <summary>Entries that the server will never take.</summary>
    public long Refused { get; init; }

    /// <summary>Writes the state aside and renames it, so that a reader always finds a whole one.</summary>
    public void Write(string path) => Durable.WriteAllBytes(path, [.. JsonSerializer.SerializeToUtf8Bytes(this, MlflowJson.Default.TrackingState), (byte)'\n']);

    /// <summary>Reads a state; null where there is none.</summary>
    /// <exception cref="IOException">The file cannot be read, or holds something else.</exception>
    public static TrackingState? Read(string path)
    {
        try
        {
            return !File.Exists(path) ? null
                : JsonSerializer.Deserialize(File.ReadAllBytes(path), MlflowJson.Default.TrackingState) is { Uri: not null } state ? state
                : throw new JsonException("it names no server");
        }
        catch (JsonException e)
        {
            throw new IOException($"'{path}' is damaged ({e.Message}); without that file the run is told as a new one", e);
        }
    }
}
