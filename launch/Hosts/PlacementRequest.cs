namespace Moe.Launch.Hosts;

/// <summary>What the command line says of where ranks are to live; null where it says nothing.</summary>
/// <param name="Nodes"><c>--nodes</c>.</param>
/// <param name="ProcessesPerNode"><c>--procs-per-node</c>.</param>
/// <param name="Hosts"><c>--hosts</c>.</param>
/// <param name="HostFile"><c>--hostfile</c>.</param>
/// <param name="Ssh"><c>--ssh</c>.</param>
/// <param name="NodeRank"><c>--node-rank</c>.</param>
/// <param name="Rendezvous"><c>--rdzv</c>.</param>
/// <param name="ThroughSrun"><c>--srun</c>.</param>
internal sealed record PlacementRequest(
    int? Nodes = null,
    int? ProcessesPerNode = null,
    string? Hosts = null,
    string? HostFile = null,
    string? Ssh = null,
    int? NodeRank = null,
    string? Rendezvous = null,
    bool ThroughSrun = false);

/// <summary>Where ranks will live.</summary>
/// <param name="Placement">Machines, and who starts ranks there.</param>
/// <param name="Nodes">Number of nodes.</param>
/// <param name="ProcessesPerNode">Ranks of each.</param>
internal sealed record Placed(Supervision.Placement Placement, int Nodes, int ProcessesPerNode);
