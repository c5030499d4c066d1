using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>All that the ranks of a run are started with.</summary>
/// <param name="Program">What to run.</param>
/// <param name="Mode">The rank's first argument: <c>train</c>, <c>verify</c> or <c>bench</c>.</param>
/// <param name="Backend"><c>mpi</c> or <c>gloo</c>.</param>
/// <param name="Nodes">Number of local groups of ranks.</param>
/// <param name="ProcessesPerNode">Ranks of a group.</param>
/// <param name="Threads">Threads of a rank's matrix products; at least 1.</param>
/// <param name="Resume"><c>auto</c>, <c>none</c> or the path of a checkpoint.</param>
/// <param name="Folder">The run folder, which exists.</param>
/// <param name="ModeArguments">Further arguments of the rank that belong to its mode.</param>
internal sealed record RankPlan(
    RankProgram Program,
    string Mode,
    string Backend,
    int Nodes,
    int ProcessesPerNode,
    int Threads,
    string Resume,
    RunFolder Folder,
    IReadOnlyList<string> ModeArguments)
{
    public int WorldSize => Nodes * ProcessesPerNode;

    /// <summary>Where a rank lives, in words.</summary>
    public string Place(int rank) => $"node {rank / ProcessesPerNode}, local {rank % ProcessesPerNode}";

    /// <summary>The rank's command line after the program's own arguments.</summary>
    public IReadOnlyList<string> Arguments =>
        [.. Program.Arguments, Mode, "--config", Folder.ConfigFile, "--resume", Resume, "--backend", Backend, .. ModeArguments];
}
