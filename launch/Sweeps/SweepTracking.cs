namespace Moe.Launch.Sweeps;

/// <summary>Holds the runs of a sweep together in a tracker: their launchers are told the id of one parent run.</summary>
internal static class SweepTracking
{
    /// <summary>MLflow's run id that a run is shown under.</summary>
    public const string ParentVariable = "MLFLOW_PARENT_RUN_ID";

    /// <summary>What the launchers of the points are given.</summary>
    /// <param name="parentRunId">Null where nothing is tracked.</param>
    public static IReadOnlyDictionary<string, string?> Variables(string? parentRunId) =>
        parentRunId is null ? new Dictionary<string, string?>() : new Dictionary<string, string?> { [ParentVariable] = parentRunId };
}
