namespace Moe.Training.Configuration;

/// <summary>Section <c>parallel</c>.</summary>
public sealed record ParallelConfig
{
    [Setting("Ranks that share one copy of the experts; ranks / expert_parallel copies exist. It divides both the ranks and the experts.",
        AtLeast = 1, Default = "null (all ranks)")]
    public int? ExpertParallel { get; init; }

    [Setting("What ranks compute on: `cpu`, or `cuda`, each its own GPU, by its number on the machine.")]
    public DeviceName Device { get; init; } = DeviceName.Cpu;

    [Setting("How rows travel to their experts: `all_to_all`, `two_level` (once a node, then within it), the slow reference `all_gather`, `local` for expert_parallel 1, or `auto`, "
        + "which measures the first two where experts span machines.")]
    public DispatcherName Dispatcher { get; init; } = DispatcherName.Auto;

    [Setting("Parts into which a rank's tokens are cut on their way to the experts: one travels while the experts work on the one before.",
        AtLeast = 1, AtMost = 64, When = "parallel.dispatcher=auto|all_to_all|two_level")]
    public int DispatchChunks { get; init; } = 1;

    [Setting("Whether each matrix is stepped by one of the ranks that hold it, which alone keeps the optimizer's state for it, and not by all of them.")]
    public bool ShardOptimizer { get; init; } = true;

    [Setting("Seconds that a rank waits in a collective before it fails the run.", Above = 0, AtMost = 86400)]
    public double TimeoutSeconds { get; init; } = 60;

    [Setting("Threads of a rank's work on the CPU.", AtLeast = 1, AtMost = 1024, Default = "null (cores / ranks on the machine, at least 1)")]
    public int? Threads { get; init; }
}

/// <summary>Values of <c>parallel.device</c>.</summary>
public enum DeviceName
{
    /// <summary>The host's cores and memory.</summary>
    Cpu,

    /// <summary>A GPU.</summary>
    Cuda,
}

/// <summary>Values of <c>parallel.dispatcher</c>.</summary>
public enum DispatcherName
{
    /// <summary>
    /// <see cref="Local"/> where expert_parallel is 1; the quicker of <see cref="AllToAll"/> and <see cref="TwoLevel"/> where experts span machines; else the former.
    /// </summary>
    Auto,

    /// <summary>No communication: this rank holds all experts.</summary>
    Local,

    /// <summary>Each row goes to the ranks of its experts.</summary>
    AllToAll,

    /// <summary>Each row goes to the nodes of its experts, and there to their ranks.</summary>
    TwoLevel,

    /// <summary>Every rank sees all rows and takes its own; the reference that tests compare with.</summary>
    AllGather,
}
