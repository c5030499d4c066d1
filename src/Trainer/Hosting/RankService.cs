using System.Diagnostics;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Moe.Distributed;
using Moe.Training.Tracking;

namespace Moe.Training.Hosting;

/// <summary>Runs the rank's job on a thread of its own, and ends the host when the job has ended.</summary>
/// <param name="arguments">What to do.</param>
/// <param name="rank">Who this process is.</param>
/// <param name="tracking">What the environment says of MLflow.</param>
/// <param name="link">Whoever watches.</param>
/// <param name="lifetime">Of the host.</param>
/// <param name="logger">Writes to the rank's log.</param>
internal sealed class RankService(
    RankArguments arguments, RankEnvironment rank, TrackingEnvironment tracking, SupervisorLink link, IHostApplicationLifetime lifetime, ILogger<RankService> logger) : BackgroundService
{
    /// <summary>What the process leaves with.</summary>
    public int ExitCode { get; private set; } = ExitCodes.Failed;

    protected override Task ExecuteAsync(CancellationToken stoppingToken)
    {
        // Tensor scopes belong to a thread, and a collective may block it for long: not a thread of the pool.
        new Thread(Work) { Name = "rank" }.Start();
        return Task.CompletedTask;
    }

    private void Work()
    {
        var trace = new CollectiveTrace();
        trace.Unanswered += failure => Posix.ExitNow(link.ReportFailure(failure, trace.Step ?? 0).ExitCode);
        try
        {
            ExitCode = new RankJob(arguments, rank, tracking, link, trace, logger).Run();
        }
        catch (Exception e) when (Leave(e, trace))
        {
            throw new UnreachableException();
        }

        lifetime.StopApplication();
    }

    // The one place where a rank's exceptions end: each becomes a report and an exit code. A filter runs before any `using` or `finally` on the way to it: leaving
    // a group whose peers hang may take as long as they do, and what went wrong there would be reported in place of the cause.
    private bool Leave(Exception exception, CollectiveTrace trace)
    {
        // After a transport gave up, whatever was computed from its tensors may have gone wrong in any way.
        Posix.ExitNow(link.ReportFailure(trace.Failure ?? exception, trace.Step ?? 0).ExitCode);
        return true;
    }
}
