using Moe.Distributed;
using Moe.Launch.Checks;
using Moe.Launch.Dashboard;
using Moe.Launch.Hosts;
using Moe.Launch.Runs;
using Moe.Launch.Supervision;
using Moe.Launch.Terminal;
using Moe.Training;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using Moe.Training.Reports;
using Moe.Training.Sampling;

namespace Moe.Launch.Commands;

/// <summary>Runs ranks from the command line to the exit code: check, open the run folder, start, watch, report.</summary>
internal static class RankRun
{
    // Somewhat below 1: what a small model finds unlikely is mostly noise.
    private const double SampleTemperature = 0.8;

    /// <summary>Runs to the end.</summary>
    /// <returns>The launcher's exit code, see <see cref="ExitCodes"/>.</returns>
    /// <exception cref="ConfigException">The configuration is faulty; nothing was started or written.</exception>
    /// <exception cref="LaunchException">The machine or the command line will not do; nothing was started.</exception>
    public static async Task<int> ExecuteAsync(RunRequest request, LaunchHost host)
    {
        var (placement, nodes, perNode) = new PlacementChoice(request.Where, host.Variable, host.WorkingDirectory).Make();
        if (placement is LauncherPerNode { Node: > 0 } place)
        {
            return await new NodeLauncher(place, nodes, perNode, host).RunAsync().ConfigureAwait(false);
        }

        using var server = new ControlServer(nodes, perNode, placement);
        try
        {
            return await LeadAsync(request with { Nodes = nodes, ProcessesPerNode = perNode }, placement, server, host).ConfigureAwait(false);
        }
        catch (Exception e) when (placement is LauncherPerNode)
        {
            await server.DismissAsync((e as LaunchException)?.ExitCode ?? ExitCodes.Usage, "it says why").ConfigureAwait(false);
            throw;
        }
    }

    private static async Task<int> LeadAsync(RunRequest request, Placement placement, ControlServer server, LaunchHost host)
    {
        var configPath = DefaultConfig.Resolve(request.ConfigPath, host);
        var resolved = Preflight.Configuration(configPath, request.Overrides, request.Nodes, request.ProcessesPerNode);
        request.Demand?.Invoke(resolved.Config);
        var device = resolved.Config.Parallel.Device;
        var backend = Preflight.Backend(BackendOf(request, placement, device), device, request.WorldSize, host);
        if (placement is ThisMachine or LauncherPerNode)
        {
            Preflight.Devices(device, backend, placement is ThisMachine ? request.WorldSize : request.ProcessesPerNode, request.WorldSize, host);
        }

        ProfileOptions.Check(request.Profile, resolved.Config);
        var resume = ResumePoint(request, resolved.Config, host);
        if (placement is HostList hosts)
        {
            await HostCheck.DemandAsync(hosts, host.RankProgram, request.RunFolder ?? Repository.RunsFolder(host.WorkingDirectory)).ConfigureAwait(false);
        }

        if (placement is SlurmTasks && Executables.Find("srun", host.Variable) is null)
        {
            throw new LaunchException(ExitCodes.Preflight, "--srun needs srun, which is not installed on this machine", "Slurm's client programs (Debian: slurm-client)");
        }

        DomainTokens.Prepare(resolved.Config.Data, host.Screen.Error.WriteLine);

        // Before the run folder is made: a port that is in use leaves nothing behind.
        var dashboard = await LiveDashboard.StartAsync(request.Dashboard, RunCatalog.Of(request.RunFolder, host), host).ConfigureAwait(false);
        await using var _ = dashboard.ConfigureAwait(false);
        using var opening = Open(request, resolved.Config, placement, host);
        dashboard.Announce(opening.Folder);
        foreach (var finding in opening.Findings)
        {
            host.Screen.Error.WriteLine($"found: {finding}");
        }

        var threads = resolved.Config.Parallel.Threads;
        var plan = new RankPlan(
            host.RankProgram,
            request.Mode,
            backend,
            request.Nodes,
            request.ProcessesPerNode,
            threads ?? RankPlan.ThreadsOf(RanksThatShare(request, placement), placement.Job),
            IsRequeued(placement) && File.Exists(opening.Folder.LatestFile) ? "auto" : resume,
            opening.Folder,
            request.ModeArguments)
        { Placement = placement, ThreadsAsked = threads };
        RefuseOtherRun(plan, resolved.Config, host);
        if (plan is { Mode: "train", Resume: "auto" } && opening.IsFinished(resolved.Config.Train.Steps))
        {
            host.Screen.Error.WriteLine(
                $"nothing is left to do: {host.Shorten(opening.Folder.Path)} has all of its {resolved.Config.Train.Steps} steps; more with --set train.steps=N, a new run with another --run-dir");
            await server.DismissAsync(ExitCodes.Done).ConfigureAwait(false);
            return ExitCodes.Done;
        }

        foreach (var warning in resolved.Warnings.Select(warning => warning.ToString()).Concat(IdleNodes(placement)))
        {
            host.Screen.Error.WriteLine($"warning: {warning}");
        }

        var outcome = await WatchAsync(plan, opening, resolved, request.Ui, server, dashboard.AddressOf(opening.Folder), host).ConfigureAwait(false);
        Conclude(plan, outcome, host);
        await TrackingEnd.ConcludeAsync(plan, outcome, resolved.Config.Tracking, host).ConfigureAwait(false);
        return outcome.ExitCode;
    }

    // mpirun starts the ranks of all nodes itself; a launcher on each node has nothing to do for it.
    private static string BackendOf(RunRequest request, Placement placement, DeviceName device) => (placement, request.Backend) switch
    {
        (LauncherPerNode, BackendNames.Mpi) => throw new LaunchException(
            ExitCodes.Usage, "--backend mpi does not go with a launcher on each node: MPI wants to start all ranks itself",
            "under Slurm launch --srun, as in launch slurm render --tasks ranks; elsewhere --hosts; or --backend gloo or nccl"),
        (LauncherPerNode, BackendNames.Auto) when device == DeviceName.Cpu => BackendNames.Gloo,
        _ => request.Backend,
    };

    private static int RanksThatShare(RunRequest request, Placement placement) => placement switch
    {
        ThisMachine => request.WorldSize,
        SlurmTasks { Job.CpusPerTask: not null } => 1, // counted for the rank alone
        _ => request.ProcessesPerNode,
    };

    private static bool IsRequeued(Placement placement) => placement.Job is { Restarts: > 0 };

    private static IEnumerable<string> IdleNodes(Placement placement) => placement is ThisMachine { Job: { Step: null, Nodes: > 1 } job }
        ? [$"Slurm job {job.Name} has {job.Nodes} nodes, but all ranks run on this one: launch slurm render shows how they run on all"]
        : [];

    private static async Task<RunOutcome> WatchAsync(
        RankPlan plan, RunFolderOpening opening, ResolvedConfig resolved, string ui, ControlServer server, string? dashboard, LaunchHost host)
    {
        var config = resolved.Config;
        var view = plan.Mode == "bench" ? new BenchView(host.Screen, asJson: ui == RunViews.Json) : RunViews.Create(ui, host.Screen);
        await using (view.ConfigureAwait(false))
        {
            var recorder = opening.Begin(new RunRecord(
                opening.Id, "starting", plan.Mode, plan.Backend, plan.Nodes, plan.ProcessesPerNode, plan.WorldSize, Environment.ProcessId, Environment.MachineName, DateTime.UtcNow, opening.Attempt)
            {
                Hosts = plan.Placement.Machines.Count > 0 ? plan.Placement.Machines : null,
                SlurmJob = plan.Placement.Job?.Name,
            }, view.Notice);
            view.Started(new RunHeader(
                opening.Id, host.Shorten(plan.Folder.Path), plan.Mode, plan.Backend, plan.Nodes, plan.ProcessesPerNode, plan.Threads, config.Train.Steps)
            {
                Machines = plan.Placement.Describe(plan.Nodes, plan.ProcessesPerNode, plan.Backend),
                Dashboard = dashboard,
            });

            var outcome = await RunAsync(plan, resolved, recorder, view, server, host).ConfigureAwait(false);
            recorder.Ended(outcome);
            if (plan.Mode == "train" && outcome.ExitCode == ExitCodes.Done && config.Train.SampleTokens > 0)
            {
                TryShowSample(plan.Folder, config, view, recorder);
            }

            if (plan.Mode == "train")
            {
                // Rank 0 wrote one, unless it failed; only now is the end known, and the sample there.
                Report.WriteAtEnd(plan.Folder, status: null, text => recorder.Event("warning", null, text));
            }

            view.Ended(outcome);
            return outcome;
        }
    }

    // From the configuration's files to the end of the last rank.
    private static async Task<RunOutcome> RunAsync(RankPlan plan, ResolvedConfig resolved, RunRecorder recorder, IRunView view, ControlServer server, LaunchHost host)
    {
        RunConfigFiles? files = null;
        try
        {
            files = RunConfigFiles.Write(plan.Folder, resolved);

            // Ranks meet in a store that outlives each of them.
            using var store = BackendNames.NeedsStore(plan.Backend) && plan.Program.NeedsNativeLibraries ? OpenStore(plan.Placement) : null;
            using var log = TextWriter.Synchronized(new StreamWriter(plan.Folder.LauncherLogFile, append: true) { AutoFlush = true });
            using var supervisor = new Supervisor(plan, recorder, view, server, host.StartPatience);
            using var watch = new FolderWatch(plan.Folder, host.Shorten(plan.Folder.Path), supervisor.RequestEnd);
            ParentWatch.Start(host.Variable, supervisor.RequestStop);
            return await SuperviseAsync(supervisor, store?.Port, log, plan.Placement.Job is not null).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            recorder.Failed(e.Message, (e as LaunchException)?.ExitCode ?? (DiskFault.IsOne(e) ? ExitCodes.Preflight : ExitCodes.Failed));
            throw;
        }
        finally
        {
            if (plan.Mode == "train" && !recorder.HasBegun)
            {
                files?.TryRestore();
            }
        }
    }

    // While ranks run, signals are requests to them; afterwards they end this process as they end any other.
    private static async Task<RunOutcome> SuperviseAsync(Supervisor supervisor, int? storePort, TextWriter log, bool isSlurmTask)
    {
        using var signals = new StopSignals(supervisor.RequestStop, supervisor.RequestLeave, isSlurmTask);
        return await supervisor.RunAsync(storePort, log).ConfigureAwait(false);
    }

    private static StoreServer OpenStore(Placement placement)
    {
        try
        {
            return new StoreServer(placement.StorePort);
        }
        catch (CommunicationException e)
        {
            throw new LaunchException(ExitCodes.Preflight, e.Message, $"two other free ports: --rdzv {placement.Address}:PORT");
        }
    }

    // The training has ended well, whatever becomes of its sample.
    private static void TryShowSample(RunFolder folder, RunConfig config, IRunView view, RunRecorder recorder)
    {
        try
        {
            ShowSample(folder, config, view);
        }
#pragma warning disable CA1031 // A full disk, a checkpoint that was moved away, a library that does not load: none of it undoes the run.
        catch (Exception e)
#pragma warning restore CA1031
        {
            recorder.Event("warning", null, $"there is no sample: {e.Message}");
            view.Notice($"there is no sample: {e.Message}");
        }
    }

    private static void ShowSample(RunFolder folder, RunConfig config, IRunView view)
    {
        using var trained = TrainedRun.Open(folder.Path, view.Notice);
        var prompt = config.Train.SamplePrompt;
        var text = prompt + string.Concat(new TextGenerator(trained.Model, config.Run.Seed).Continue(prompt, config.Train.SampleTokens, SampleTemperature));
        File.WriteAllText(folder.SampleFile, text + "\n");
        view.Text("");
        foreach (var line in text.Split('\n'))
        {
            view.Text(string.Concat(line.Select(c => char.IsControl(c) && c != '\t' ? '\uFFFD' : c))); // a model may write escape sequences
        }

        view.Text("");
    }

    private static void Conclude(RankPlan plan, RunOutcome outcome, LaunchHost host)
    {
        var folder = host.Shorten(plan.Folder.Path);
        if (outcome.RootCause is not null)
        {
            FailureReport.Write(host.Screen, plan, outcome, folder, host.Command);
        }
        else if (outcome.ExitCode == ExitCodes.Stopped && plan.Placement is LauncherPerNode { Job: not null } or SlurmTasks)
        {
            host.Screen.Error.WriteLine($"stopped and saved: the job continues in {folder} when it is requeued, and so does another one with this --run-dir");
        }
        else if (outcome.ExitCode == ExitCodes.Stopped)
        {
            host.Screen.Error.WriteLine($"stopped; to continue: {FailureReport.ContinueCommand(plan, folder, host.Command)}");
        }
    }

    private static RunFolderOpening Open(RunRequest request, RunConfig config, Placement placement, LaunchHost host)
    {
        var startsAfresh = request.Resume == "none" && !IsRequeued(placement);
        if (request.RunFolder is { } named)
        {
            return RunFolderOpening.OpenNamed(named, request.Mode, startsAfresh);
        }

        var runs = Repository.RunsFolder(host.WorkingDirectory);

        // A batch job that is requeued has to find its own folder again.
        if (request.Mode == "train" && placement is LauncherPerNode or SlurmTasks && placement.Job is { } job && host.Variable("ENVIRONMENT") == "BATCH")
        {
            return RunFolderOpening.OpenNamed(Path.Combine(runs, $"{config.Run.Name}-{job.Name}"), request.Mode, startsAfresh);
        }

        var name = request.Mode == "train" ? config.Run.Name : $"{request.Mode}-{config.Run.Name}";
        return RunFolderOpening.Create(runs, name);
    }

    // Before config.yaml is replaced: sampling and evaluation read it together with the checkpoints that are there.
    private static void RefuseOtherRun(RankPlan plan, RunConfig config, LaunchHost host)
    {
        var (folder, file) = (plan.Folder, host.Shorten(plan.Folder.ConfigFile));
        IReadOnlyList<string> differences = File.Exists(folder.LatestFile) && File.Exists(folder.ConfigFile)
            ? [.. ConfigDifference.Between(ConfigReader.Read(folder.ConfigFile, []).Config, config)
                .Where(difference => !difference.StartsWith("schedule.file:", StringComparison.Ordinal))] // the folder has its own copy
            : [];
        var ofModel = differences.Where(difference => difference.StartsWith("model.", StringComparison.Ordinal)).ToList();
        if (ofModel.Count > 0)
        {
            throw new LaunchException(
                ExitCodes.Usage,
                $"'{host.Shorten(folder.Path)}' holds checkpoints of another model: {ConfigDifference.Text(ofModel)}",
                $"--config {file} to continue it, or another --run-dir");
        }

        if (plan.Resume == "auto")
        {
            RefuseOtherCourse(folder.Path, config, plan.WorldSize, $"--config {file} to continue it as it was, or another --run-dir");
        }

        if (differences.Count > 0)
        {
            host.Screen.Error.WriteLine($"warning: the configuration is not the one that {host.Shorten(folder.Path)} had: {ConfigDifference.Text(differences)}");
        }
    }

    // What the ranks would refuse, before any of them starts.
    private static void RefuseOtherCourse(string path, RunConfig config, int ranks, string remedy)
    {
        if (ResumeSource.Foresee(path) is not { } position)
        {
            return;
        }

        try
        {
            Continuation.DemandSameOptimizers(position, config);
            Continuation.Adapt(position, config, ranks, _ => { });
        }
        catch (CheckpointException e)
        {
            throw new LaunchException(ExitCodes.Usage, e.Message, remedy);
        }
    }

    private static string ResumePoint(RunRequest request, RunConfig config, LaunchHost host)
    {
        if (request.Resume is "auto" or "none")
        {
            return request.Resume;
        }

        var path = Path.GetFullPath(request.Resume, host.WorkingDirectory);
        if (!Directory.Exists(path))
        {
            throw new LaunchException(ExitCodes.Usage, $"--resume {request.Resume}: there is no such checkpoint folder", "a folder such as runs/NAME/checkpoints/step_00000300, or auto, or none");
        }

        RefuseOtherCourse(path, config, request.WorldSize, "the configuration that it was trained with (config.yaml of its run), or another checkpoint");
        return path;
    }
}
