using System.CommandLine;
using System.Globalization;
using Moe.Launch.Runs;
using Moe.Training.Hosting;
using Moe.Training.Tracking;

namespace Moe.Launch.Commands;

/// <summary><c>launch mlflow</c>: sends what MLflow lacks of runs that have ended, and says where runs stand.</summary>
internal static class MlflowCommand
{
    private const int DefaultWait = 30;

    public static Command Create(LaunchHost host)
    {
        var command = new Command("mlflow", "What MLflow knows of the runs, and the rest of it.");
        command.Subcommands.Add(Sync(host));
        command.Subcommands.Add(Status(host));
        return command.WithExamples("launch mlflow status --all", "launch mlflow sync --run runs/mine");
    }

    private static Command Sync(LaunchHost host)
    {
        var (run, all) = Selection();
        var uri = new Option<string?>("--uri") { Description = "Another server or file store, which then gets the whole run as a new one.", HelpName = "URI" };
        var wait = RunOptions.Count("--wait", "Seconds to try for where the server is away, for each run.", DefaultWait);
        var sync = new Command("sync", "Sends what MLflow lacks of runs that have ended. Nothing is sent twice.") { run, all, uri, wait };
        RequireOne(sync, run, all);
        uri.Validators.Add(result =>
        {
            if (result.GetValueOrDefault<string?>() is { } text && (text == TrackingTarget.None || TrackingTarget.Fault(text) is not null))
            {
                result.AddError($"--uri {TrackingTarget.Fault(text) ?? "names no server"}; give http://HOST:PORT or file:PATH.");
            }
        });
        sync.SetAction((result, _) => SyncAsync(
            Folders(result, run, all, host), isAlone: result.GetResult(all) is null, TimeSpan.FromSeconds(result.GetValue(wait)), result.GetValue(uri), host));
        return sync.WithExamples(
            "launch mlflow sync --run runs/mine",
            "launch mlflow sync --all",
            "launch mlflow sync --run runs/mine --uri http://other:5000",
            "",
            "User name, password and token come from MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD and MLFLOW_TRACKING_TOKEN.",
            "Exit codes: 0 MLflow has everything, 1 usage, 2 a folder cannot be read, or with --run another process still sends it, 4 MLflow lacks something still.",
            "With --all, runs that other processes still send (trainings and sweeps that go on) are counted in the last line and are no fault.");
    }

    private static async Task<int> SyncAsync(List<RunFolder> folders, bool isAlone, TimeSpan wait, string? uri, LaunchHost host)
    {
        var connection = TrackingEnvironment.Read(host.Variable).Connection;
        var (worst, unreadable) = (ExitCodes.Done, 0);
        var outcomes = new List<SyncOutcome>();
        foreach (var folder in folders)
        {
            try
            {
                var report = await RunSync.SendAsync(folder, connection, wait, line => host.Screen.Error.WriteLine($"warning: {line}"), uri).ConfigureAwait(false);
                worst = Math.Max(worst, Say(folder, report, isAlone, host));
                outcomes.Add(report.Outcome);
            }
            catch (Exception e) when (!isAlone && e is IOException or UnauthorizedAccessException)
            {
                // One damaged folder keeps nothing back of the others.
                host.Screen.WriteHeadline($"{host.Shorten(folder.Path)} is not sent: {e.Message}");
                worst = Math.Max(worst, ExitCodes.Preflight);
                unreadable++;
            }
        }

        if (!isAlone)
        {
            int Count(SyncOutcome outcome) => outcomes.Count(one => one == outcome);
            host.Screen.Output.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"runs={folders.Count} whole={Count(SyncOutcome.Whole)} busy={Count(SyncOutcome.Busy)} behind={Count(SyncOutcome.Behind)} unreadable={unreadable}"));
        }

        return worst;
    }

    private static Command Status(LaunchHost host)
    {
        var (run, all) = Selection();
        var status = new Command("status", "Says of each run where it is told to, and what is not yet. Asks no server.") { run, all };
        RequireOne(status, run, all);
        status.SetAction(result =>
        {
            foreach (var folder in Folders(result, run, all, host))
            {
                var line = RunSync.Inspect(folder) is var (state, pending, word)
                    ? string.Create(CultureInfo.InvariantCulture, $"run={host.Shorten(folder.Path)} uri={state.Uri} mlflow_run={state.RunId ?? "none"} status={word ?? "none"} pending_bytes={pending} refused={state.Refused}")
                    : $"run={host.Shorten(folder.Path)} uri=none";
                host.Screen.Output.WriteLine(line);
            }

            return ExitCodes.Done;
        });
        return status.WithExamples("launch mlflow status --run runs/mine", "launch mlflow status --all");
    }

    private static (Option<string?> Run, Option<string?> All) Selection() => (
        new Option<string?>("--run") { Description = "Folder of the run.", HelpName = "DIR" },
        new Option<string?>("--all") { Description = "All tracked runs in this folder. Default: runs/.", HelpName = "RUNS_DIR", Arity = ArgumentArity.ZeroOrOne });

    private static void RequireOne(Command command, Option<string?> run, Option<string?> all) => command.Validators.Add(result =>
    {
        if (result.GetResult(run) is null == result.GetResult(all) is null)
        {
            result.AddError("Give one of --run DIR and --all [RUNS_DIR].");
        }
    });

    private static List<RunFolder> Folders(ParseResult result, Option<string?> run, Option<string?> all, LaunchHost host)
    {
        if (result.GetValue(run) is { } one)
        {
            return [RunArgument.Find(one, host)];
        }

        var root = result.GetValue(all) is { } named ? Path.GetFullPath(named, host.WorkingDirectory) : Repository.RunsFolder(host.WorkingDirectory);
        return Directory.Exists(root)
            ? [.. Directory.EnumerateFiles(root, "mlflow.json", new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 3 })
                .Select(file => new RunFolder(Path.GetDirectoryName(file)!)).OrderBy(folder => folder.Path, StringComparer.Ordinal)]
            : throw new LaunchException(ExitCodes.Usage, $"--all: there is no folder '{host.Shorten(root)}'", "--all RUNS_DIR");
    }

    private static int Say(RunFolder folder, SyncReport report, bool isAlone, LaunchHost host)
    {
        var name = host.Shorten(folder.Path);
        switch (report.Outcome)
        {
            case SyncOutcome.Whole:
                host.Screen.Output.WriteLine($"run={name} sent={report.Lines} uri={report.State!.Uri} mlflow_run={report.State.RunId}");
                return ExitCodes.Done;
            case SyncOutcome.Busy when isAlone:
                throw new LaunchException(ExitCodes.Preflight, $"nothing of {name} was sent: {report.Fault}", "the same command when that process has ended");
            case SyncOutcome.Busy:
                host.Screen.Output.WriteLine($"run={name} sent=0 busy: {report.Fault}");
                return ExitCodes.Done;
            case SyncOutcome.NotTracked when isAlone:
                throw new LaunchException(
                    ExitCodes.Usage, $"'{name}' was not tracked: it has no mlflow.json", "set tracking.mlflow, or MLFLOW_TRACKING_URI, before a run starts or is continued");
            case SyncOutcome.NotTracked:
                return ExitCodes.Done;
            default:
                host.Screen.WriteHeadline($"MLflow lacks a part of {name}: {report.Fault}");
                host.Screen.WriteParagraph("try", $"the same command when {report.State!.Uri} answers; what was sent is not sent again");
                return ExitCodes.Communication;
        }
    }
}
