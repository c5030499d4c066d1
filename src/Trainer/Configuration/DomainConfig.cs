namespace Moe.Training.Configuration;

/// <summary>One item of <c>data.domains</c>.</summary>
public sealed record DomainConfig
{
    [Setting("Names the domain in metrics; each name once.", IsName = true)]
    public required string Name { get; init; }

    [Setting("Text file, folder of text files, or folder written by `launch data prepare`; relative to the configuration file's folder.", IsPath = true)]
    public required string Path { get; init; }

    [Setting("Its share of the sequences is its weight by the sum of all weights.", Above = 0)]
    public double Weight { get; init; } = 1;
}
