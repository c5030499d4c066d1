using System.Diagnostics;

namespace Moe.Launch.Supervision;

/// <summary>The processes that a launcher started: a child a rank, or one mpirun or srun for all ranks.</summary>
/// <param name="all">Each of them.</param>
internal sealed class RankProcesses(IReadOnlyList<SpawnedProcess> all) : IDisposable
{
    private static readonly TimeSpan KillPatience = TimeSpan.FromSeconds(10);

    /// <summary>None.</summary>
    public static RankProcesses None { get; } = new([]);

    public IReadOnlyList<SpawnedProcess> All => all;

    /// <summary>Signals all of them, and what they started.</summary>
    public void Signal(int signal)
    {
        foreach (var process in all)
        {
            process.Signal(signal);
        }
    }

    /// <summary>Kills until nothing is left; gives up after 10 s on what the kernel does not let go.</summary>
    public async Task KillRemainsAsync()
    {
        for (var clock = Stopwatch.StartNew(); clock.Elapsed < KillPatience && all.Any(process => ProcessSession.Members(process.Id).Count > 0);)
        {
            Signal(ProcessSession.Kill);
            await Task.Delay(10).ConfigureAwait(false);
        }
    }

    /// <summary>What a rank's own process printed last, before its output went to a rank log.</summary>
    public IReadOnlyList<string> LastLines(int rank, int count) =>
        [.. all.Where(process => process.Rank == rank).SelectMany(process => process.LastLines).TakeLast(count)];

    public void Dispose()
    {
        foreach (var process in all)
        {
            process.Dispose();
        }
    }
}
