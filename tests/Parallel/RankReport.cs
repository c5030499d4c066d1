namespace Moe.Tests.Distributed;

/// <summary>How one rank of a <see cref="Ranks"/> run ended.</summary>
/// <param name="ExitCode">Null where the process was killed before it could say.</param>
/// <param name="Output">What it wrote to the console.</param>
public sealed record RankReport(int Rank, int? ExitCode, string Output);

/// <summary>How a run of ranks ended.</summary>
/// <param name="Ranks">By rank.</param>
/// <param name="ExitCode">Of mpirun; for Gloo, which has no launcher here, the first that is not 0.</param>
/// <param name="TimedOut">Whether the processes had to be killed because the run's own time was up.</param>
/// <param name="Leftovers">Processes that were still there a second after the end.</param>
public sealed record RanksReport(RankReport[] Ranks, int ExitCode, bool TimedOut, TimeSpan Elapsed, int Leftovers, string LauncherOutput)
{
    public bool Succeeded => ExitCode == 0 && !TimedOut && Leftovers == 0;

    public override string ToString() => string.Join('\n', [
        FormattableString.Invariant(
            $"exit code {ExitCode} after {Elapsed.TotalSeconds:0.0} s{(TimedOut ? ", killed: out of time" : "")}, {Leftovers} processes left behind"),
        .. Ranks.Select(rank => $"--- rank {rank.Rank}, exit code {rank.ExitCode?.ToString() ?? "unknown"}\n{rank.Output}"),
        LauncherOutput.Length > 0 ? $"--- launcher\n{LauncherOutput}" : "",
    ]);
}
