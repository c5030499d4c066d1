namespace Moe.Launch.Sweeps;

/// <summary>A sweep as it stands on the command line.</summary>
/// <param name="ConfigPath">Null for the default.</param>
/// <param name="Overrides">Each <c>key.path=value</c>, for all points.</param>
/// <param name="Axes">The grid.</param>
/// <param name="Seeds">Seeds that each combination is run with; empty where the configuration's own stands.</param>
/// <param name="Nodes">Of each run; at least 1.</param>
/// <param name="ProcessesPerNode">Of each run; at least 1.</param>
/// <param name="Backend"><c>auto</c>, <c>mpi</c> or <c>gloo</c>.</param>
/// <param name="Parallel">Runs at a time; at least 1.</param>
/// <param name="Name">Name of the sweep's folder; null for one after the configuration and the axes.</param>
/// <param name="Metric">Key of metrics.jsonl whose last value ranks the points.</param>
/// <param name="Maximize">Whether a larger value is better.</param>
/// <param name="RetryFailed">Whether points that failed before are run again.</param>
/// <param name="ListOnly">Whether the points are only checked and listed.</param>
/// <param name="Ui">One of the names in <see cref="Terminal.RunViews"/>.</param>
internal sealed record SweepRequest(
    string? ConfigPath,
    IReadOnlyList<string> Overrides,
    IReadOnlyList<GridAxis> Axes,
    IReadOnlyList<ulong> Seeds,
    int Nodes,
    int ProcessesPerNode,
    string Backend,
    int Parallel,
    string? Name,
    string Metric,
    bool Maximize,
    bool RetryFailed,
    bool ListOnly,
    string Ui)
{
    public int WorldSize => Nodes * ProcessesPerNode;
}
