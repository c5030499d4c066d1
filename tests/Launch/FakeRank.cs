using System.Diagnostics;
using System.Runtime.InteropServices;
using Moe.Distributed;
using Moe.Training.Hosting;

namespace Moe.Tests.Launch;

/// <summary>
/// A rank that does all that a rank does except training: <c>Moe.Tests.dll fake-rank BEHAVIOUR ...</c>. A behaviour is a word, which every rank
/// then shows, or <c>word@N</c>, which only rank N shows, while the others go on until they are told to stop.
/// </summary>
internal static partial class FakeRank
{
    public const string Command = "fake-rank";
    private const int StepMilliseconds = 20;
    private const int ShortRun = 5;

    public static int Run(string[] args)
    {
        var rank = RankEnvironment.Read(Environment.GetEnvironmentVariable);
        var (behaviour, who) = Parse(args[0]);
        if (behaviour == "mute")
        {
            Thread.Sleep(Timeout.Infinite);
        }

        RankLog.Redirect(new RunFolder(rank.RunFolder!).LogFile(rank.Rank));
        using var link = SupervisorLink.Connect(rank);
        using var signals = new StopSignals(link.RequestStop, (_, number) => Environment.Exit(ExitCodes.Signalled(number)));
        Console.WriteLine($"rank {rank.Rank} of {rank.WorldSize}, local {rank.LocalRank} of {rank.LocalWorldSize}, node {rank.NodeRank}");
        Console.WriteLine($"arguments {string.Join(' ', args[1..])}");
        Console.WriteLine($"parent run {Environment.GetEnvironmentVariable("MLFLOW_PARENT_RUN_ID")}");
        Console.WriteLine($"threads {Environment.GetEnvironmentVariable("OMP_NUM_THREADS")}");
        if (behaviour == "refuse")
        {
            return link.ReportFailure(new Moe.Training.Checkpoints.CheckpointException("the checkpoint is of a run with other optimizer settings"), step: 0).ExitCode;
        }

        if (rank.Rank == 0)
        {
            link.ReportInfo(new InfoMessage(9_800_000, 3_100_000, $"replica 1 x expert {rank.WorldSize}", 0, ShortRun));
        }

        try
        {
            if (behaviour is "recorded" or "recorded-endless" && rank.Rank == 0)
            {
                Record(rank, args[args.IndexOf("--config") + 1]);
            }

            return Train(link, rank.Rank, who is null || who == rank.Rank ? behaviour : "endless");
        }
        catch (Exception e)
        {
            return link.ReportFailure(e, step: 2).ExitCode;
        }
    }

    // A run as a sweep reads it: rows in metrics.jsonl, better at a higher rate and a little worse with each seed.
    private static void Record(RankEnvironment rank, string configFile)
    {
        var config = Moe.Training.Configuration.ConfigReader.Read(configFile, []).Config;
        var last = (config.Optimizer.LearningRate > 0.002 ? 0.5 : 1.0) + (config.Run.Seed / 1000.0);
        using var rows = new Moe.Training.MetricsFile(new RunFolder(rank.RunFolder!).MetricsFile, lastStep: 0);
        for (var step = 1; step <= ShortRun; step++)
        {
            rows.Append(new Dictionary<string, double> { ["step"] = step, ["train/loss"] = last + ShortRun - step, ["eval/loss"] = last + ShortRun - step });
        }
    }

    private static int Train(SupervisorLink link, int rank, string behaviour)
    {
        for (var step = 1; ; step++)
        {
            Thread.Sleep(StepMilliseconds);
            if (rank == 0)
            {
                link.ReportMetrics(
                    new Dictionary<string, double> { ["step"] = step, ["train/loss"] = 5.0 / step, ["perf/tokens_per_s"] = 84120, ["perf/step_ms"] = StepMilliseconds },
                    [1.0, 0.5, 1.5, 1.0],
                    behaviour == "slow" ? new Dictionary<string, double[]> { [Moe.Training.RankMeter.BusyTime] = [20, 21, 26, 20] } : null);
            }

            if (step == 2)
            {
                Misbehave(behaviour, rank, link);
            }

            if (link.StopRequested)
            {
                link.ReportEvent("checkpoint", step, "saved");
                return Leave(link, ExitCodes.Stopped);
            }

            if (step == (behaviour == "long" ? 40 * ShortRun : ShortRun) && behaviour is "long" or "slow" or "done" or "verify" or "recorded")
            {
                link.ReportText($"rank {rank} says \"done\"");
                return Leave(link, behaviour == "verify" ? ExitCodes.Failed : ExitCodes.Done);
            }
        }
    }

    private static void Misbehave(string behaviour, int rank, SupervisorLink link)
    {
        switch (behaviour)
        {
            case "exit":
                Environment.Exit(3);
                break;
            case "throw":
                throw new InvalidOperationException("the loss is not finite");
            case "kill":
                _ = Signal(Environment.ProcessId, 9);
                break;
            case "crash":
                _ = Write(2, "native code gives up\n"u8, "native code gives up\n"u8.Length);
                Abort();
                break;
            case "freeze" when rank == 1: // does not even hear an abort or a SIGTERM
                _ = Signal(Environment.ProcessId, 19);
                break;
            case "freeze":
                throw new InvalidOperationException("another rank will not hear of this");
            case "broken" when rank == 1: // dies last, though it is the cause
                Thread.Sleep(400);
                _ = Signal(Environment.ProcessId, 9);
                break;
            case "broken":
                throw new CommunicationException("all_to_all failed: connection closed by peer") { Operation = "all_to_all", Group = "expert", Layer = 3 };
            case "timeout" when rank == 1: // waits for ever, outside any collective
                Thread.Sleep(Timeout.Infinite);
                break;
            case "timeout":
                throw new CommunicationException("all_to_all timed out after 60 s") { Operation = "all_to_all", Group = "expert", TimedOut = true };
            case "slow":
                link.ReportEvent("checkpoint", step: 2, "step_00000002 written in 0.01 s");
                break;
            case "warn":
                for (var i = 0; i < 12; i++)
                {
                    link.ReportEvent("warning", 2, "the disk is slow");
                }

                link.RequestStop("the test");
                break;
            case "litter":
                Process.Start("sleep", "600").Dispose();
                link.RequestStop("the test");
                break;
        }
    }

    private static int Leave(SupervisorLink link, int code)
    {
        link.Goodbye(code);
        return code;
    }

    private static (string Behaviour, int? Rank) Parse(string text) =>
        text.Split('@') is [var word, var rank] ? (word, int.Parse(rank)) : (text, null);

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Signal(int process, int signal);

    [LibraryImport("libc", EntryPoint = "write")]
    private static partial nint Write(int descriptor, ReadOnlySpan<byte> bytes, nint count);

    [LibraryImport("libc", EntryPoint = "abort")]
    private static partial void Abort();
}
