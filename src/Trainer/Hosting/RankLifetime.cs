using Microsoft.Extensions.Hosting;

namespace Moe.Training.Hosting;

/// <summary>
/// The host's lifetime in place of the console's: a first signal asks the loop to finish its step and save, where the console's would stop
/// the host under it; a second leaves at once.
/// </summary>
/// <param name="link">Told of the request.</param>
/// <param name="rank">Says whether Slurm may repeat its signals.</param>
internal sealed class RankLifetime(SupervisorLink link, RankEnvironment rank) : IHostLifetime, IDisposable
{
    private StopSignals? _signals;

    public Task WaitForStartAsync(CancellationToken cancellationToken)
    {
        _signals = new StopSignals(link.RequestStop, (_, number) => Posix.ExitNow(ExitCodes.Signalled(number)), rank.IsSlurmTask);
        return Task.CompletedTask;
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public void Dispose() => _signals?.Dispose();
}
