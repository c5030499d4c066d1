namespace Moe.Training.Configuration;

/// <summary>Section <c>run</c>.</summary>
public sealed record IdentityConfig
{
    [Setting("Seed of every random stream: weights, sample order, sampling. The same seed and global batch give the same run on any number of ranks, up to rounding.")]
    public ulong Seed { get; init; } = 1;

    [Setting("Part of the run folder's name.", Default = "the configuration file's name without its ending", IsName = true)]
    public string Name { get; init; } = "run";
}
