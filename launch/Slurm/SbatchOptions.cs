namespace Moe.Launch.Slurm;

/// <summary>What a job script is made from.</summary>
/// <param name="Config">The configuration file, as the script's folder sees it.</param>
/// <param name="Nodes">Number of nodes.</param>
/// <param name="ProcessesPerNode">Ranks of a node.</param>
/// <param name="Program">The words that call the launcher.</param>
internal sealed record SbatchOptions(string Config, int Nodes, int ProcessesPerNode, IReadOnlyList<string> Program)
{
    /// <summary>Whether Slurm's tasks are the ranks themselves; otherwise one launcher a node.</summary>
    public bool TaskPerRank { get; init; }

    public string JobName { get; init; } = "moe";

    /// <summary>GPUs of a node; 0 asks for none.</summary>
    public int GpusPerNode { get; init; }

    /// <summary>As <c>sbatch --time</c> takes it.</summary>
    public string Time { get; init; } = "01:00:00";

    public string? Partition { get; init; }

    public string? Account { get; init; }

    public string? Quality { get; init; }

    /// <summary>Memory of a node, such as <c>32G</c>; 0 for all of it.</summary>
    public string? Memory { get; init; }

    /// <summary>Cores of a launcher, or of a rank where each is a task.</summary>
    public int? CpusPerTask { get; init; }

    /// <summary>Where the job's own output goes; its folder must exist when the job starts.</summary>
    public string Output { get; init; } = "%x-%j.out";

    /// <summary>How often the job goes back to the queue at its time limit.</summary>
    public int MaxRequeues { get; init; } = 10;

    /// <summary>Further options of sbatch, such as <c>--constraint=a100</c>.</summary>
    public IReadOnlyList<string> Further { get; init; } = [];

    /// <summary>The run folder; null for one by the job's name and number in <see cref="RunsFolder"/>.</summary>
    public string? RunFolder { get; init; }

    public string RunsFolder { get; init; } = "runs";

    public string Backend { get; init; } = "auto";

    public string Resume { get; init; } = "auto";

    /// <summary>Each <c>key.path=value</c>.</summary>
    public IReadOnlyList<string> Overrides { get; init; } = [];
}
