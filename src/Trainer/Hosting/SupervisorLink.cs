using System.Diagnostics;
using Moe.Training.Benchmarks;
using Moe.Training.Profiling;

namespace Moe.Training.Hosting;

/// <summary>
/// A rank's line to whoever watches it. Where the launcher started the rank, reports go to the launcher and its requests come back; otherwise
/// the rank is on its own and reports are printed. The training loop does not see the difference.
/// </summary>
/// <remarks>
/// Use: <c>Connect</c>; report; then exactly one of <see cref="Goodbye"/> and <see cref="ReportFailure"/> before the process ends. A rank that
/// ends with neither counts as killed. Any thread may report.
/// </remarks>
public abstract class SupervisorLink : IDisposable
{
    private readonly CancellationTokenSource _stopping = new();

    private protected SupervisorLink(RankEnvironment rank) => Rank = rank;

    /// <summary>True once someone asked the run to stop: finish the step, save, leave with <see cref="ExitCodes.Stopped"/>.</summary>
    /// <remarks>Ranks hear of it at different times; the loop has them agree on the step by an all-reduce (maximum) at the step's border.</remarks>
    public bool StopRequested => _stopping.IsCancellationRequested;

    /// <summary>Raised with each report before it goes out, on the thread that reports.</summary>
    public event Action<ControlMessage>? Reported;

    /// <summary>Cancelled when <see cref="StopRequested"/> becomes true.</summary>
    public CancellationToken Stopping => _stopping.Token;

    private protected RankEnvironment Rank { get; }

    /// <summary>Opens the channel to the launcher, or stands in for it where there is none.</summary>
    /// <param name="rank">Who this rank is; its <see cref="RankEnvironment.Supervisor"/> says whether there is a launcher.</param>
    /// <returns>The link. From now on the process ends by itself when the launcher is gone or tells it to abort.</returns>
    /// <exception cref="IOException">The launcher named in the environment cannot be reached.</exception>
    public static SupervisorLink Connect(RankEnvironment rank) =>
        rank.Supervisor is null ? new UnsupervisedLink(rank) : new LauncherLink(rank);

    /// <summary>Asks this rank to stop, as a signal to it does.</summary>
    /// <param name="reason">What asked, for the log.</param>
    public void RequestStop(string reason)
    {
        if (!StopRequested)
        {
            Console.WriteLine($"stop requested by {reason}: finishing the step");
            _stopping.Cancel();
        }
    }

    /// <summary>Tells what was built, before the first step. Rank 0 does.</summary>
    public void ReportInfo(InfoMessage info) => Report(info);

    /// <summary>Tells the numbers of a logged step. Rank 0 does, and writes the same row to metrics.jsonl.</summary>
    /// <param name="row">Values by metrics.jsonl's keys, <c>step</c> among them.</param>
    /// <param name="expertLoad">Tokens of each expert over their mean, averaged over the layers [E]; null where not measured.</param>
    /// <param name="ranks">What each rank measured of itself by key, each [ranks]; null where not measured.</param>
    public void ReportMetrics(
        IReadOnlyDictionary<string, double> row, IReadOnlyList<double>? expertLoad = null, IReadOnlyDictionary<string, double[]>? ranks = null) =>
        Report(new MetricsMessage(row, expertLoad, ranks));

    /// <summary>Tells something that happened once: a checkpoint, a warning.</summary>
    /// <param name="kind">One word for scripts.</param>
    /// <param name="step">Steps done.</param>
    /// <param name="text">What happened, for a reader.</param>
    public void ReportEvent(string kind, long step, string text) => Report(new EventMessage(kind, step, text));

    /// <summary>Tells what a benchmark of kernels found. Rank 0 does.</summary>
    public void ReportKernels(KernelReport report) => Report(new KernelsMessage(report));

    /// <summary>Tells where a step goes. Rank 0 does.</summary>
    public void ReportProfile(ProfileTable table) => Report(new ProfileMessage(table));

    /// <summary>Shows a line to the user as it is.</summary>
    public void ReportText(string line) => Report(new TextMessage(line));

    /// <summary>
    /// Gives account of the exception that ends this rank: in the rank's log with its stack, in errors/rank_N.json, and to the launcher, which
    /// then ends the other ranks. Call it before anything is disposed: taking down a process group whose peers hang may take long.
    /// </summary>
    /// <param name="exception">What ended the rank.</param>
    /// <param name="step">Number of the step under way; 0 before the first.</param>
    /// <returns>The account; leave with its <see cref="RankFailure.ExitCode"/>.</returns>
    public RankFailure ReportFailure(Exception exception, long step)
    {
        Say(exception.ToString());
        var failure = FailureAccount.Of(exception, Rank.Rank, step);
        if (Rank.RunFolder is { } folder)
        {
            try
            {
                failure.Write(new RunFolder(folder).ErrorFile(Rank.Rank));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                Say($"the failure report could not be written: {e.Message}"); // a full disk may be what ended the rank
            }
        }

        Report(new FailureMessage(failure));
        return failure;
    }

    /// <summary>Says that this rank ends in order. Call it when all is saved, just before the process ends.</summary>
    /// <param name="exitCode">The code that the process leaves with.</param>
    public void Goodbye(int exitCode) => Report(new GoodbyeMessage(exitCode));

    /// <summary>Closes the line.</summary>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    // The log may be on the disk that is full; the launcher must hear of the failure all the same.
    private static void Say(string text)
    {
        try
        {
            Console.Error.WriteLine(text);
        }
        catch (IOException)
        {
            // Nowhere is left to say it.
        }
    }

    private protected void Report(ControlMessage message)
    {
        Reported?.Invoke(message);
        Send(message);
    }

    private protected abstract void Send(ControlMessage message);

    /// <inheritdoc cref="Dispose()"/>
    protected virtual void Dispose(bool disposing) => _stopping.Dispose();

    /// <summary>Ends the process without any clean-up that could wait for another rank.</summary>
    private protected static void LeaveNow(string reason, int exitCode)
    {
        Console.Error.WriteLine($"leaving at once: {reason}");
        Posix.ExitNow(exitCode);
        throw new UnreachableException();
    }
}
