namespace Moe.Launch.Checks;

/// <summary>What <c>launch doctor</c> looks at.</summary>
/// <param name="Host">The launcher's surroundings.</param>
/// <param name="RunsFolder">Where runs go.</param>
/// <param name="Hosts">Other machines of a job; empty for this one alone.</param>
/// <param name="RanksPerNode">Ranks that a machine is to have; null where nobody said.</param>
internal sealed record DoctorContext(LaunchHost Host, string RunsFolder, IReadOnlyList<string> Hosts, int? RanksPerNode)
{
    /// <summary>Value of an environment variable; null where it is not set or empty.</summary>
    public string? Variable(string name) => Host.Variable(name) is { Length: > 0 } value ? value : null;

    /// <summary>Path of a program on PATH; null where there is none.</summary>
    public string? Program(string name) => Executables.Find(name, Host.Variable);
}
