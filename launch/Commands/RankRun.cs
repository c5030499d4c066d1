using Moe.Distributed.Gloo;
using Moe.Launch.Checks;
using Moe.Launch.Runs;
using Moe.Launch.Supervision;
using Moe.Launch.Terminal;
using Moe.Training;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
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
        var configPath = DefaultConfig.Resolve(request.ConfigPath, host);
        var resolved = Preflight.Configuration(configPath, request.Overrides, request.WorldSize);
        var backend = Preflight.Backend(request.Backend, host);
        var resume = ResumePoint(request, host);
        DomainTokens.Prepare(resolved.Config.Data, host.Screen.Error.WriteLine);

        using var opening = Open(request, resolved.Config, host);
        var plan = new RankPlan(
            host.RankProgram,
            request.Mode,
            backend,
            request.Nodes,
            request.ProcessesPerNode,
            Threads(resolved.Config, request.WorldSize),
            resume,
            opening.Folder,
            request.ModeArguments);
        RefuseOtherModel(opening.Folder, resolved.Config, host);
        await File.WriteAllTextAsync(opening.Folder.ConfigFile, ConfigYaml.Write(WithOwnSchedule(resolved.Config, opening.Folder))).ConfigureAwait(false);
        foreach (var warning in resolved.Warnings)
        {
            host.Screen.Error.WriteLine($"warning: {warning}");
        }

        var outcome = await WatchAsync(plan, opening, resolved.Config, request.Ui, host).ConfigureAwait(false);
        Conclude(plan, outcome, host);
        await TrackingEnd.ConcludeAsync(plan, outcome, resolved.Config.Tracking, host).ConfigureAwait(false);
        return outcome.ExitCode;
    }

    private static async Task<RunOutcome> WatchAsync(RankPlan plan, RunFolderOpening opening, RunConfig config, string ui, LaunchHost host)
    {
        var view = plan.Mode == "bench" ? new BenchView(host.Screen, asJson: ui == RunViews.Json) : RunViews.Create(ui, host.Screen);
        await using (view.ConfigureAwait(false))
        {
            var recorder = new RunRecorder(opening.Folder, new RunRecord(
                opening.Id, "starting", plan.Mode, plan.Backend, plan.Nodes, plan.ProcessesPerNode, plan.WorldSize, Environment.ProcessId, Environment.MachineName, DateTime.UtcNow, opening.Attempt), view.Notice);
            view.Started(new RunHeader(
                opening.Id, host.Shorten(plan.Folder.Path), plan.Mode, plan.Backend, plan.Nodes, plan.ProcessesPerNode, plan.Threads, config.Train.Steps));

            // Ranks meet in a store that outlives each of them.
            using var store = plan.Backend == BackendNames.Gloo && plan.Program.NeedsNativeLibraries ? new StoreServer() : null;
            using var log = TextWriter.Synchronized(new StreamWriter(plan.Folder.LauncherLogFile, append: true) { AutoFlush = true });
            using var supervisor = new Supervisor(plan, recorder, view, host.StartPatience);
            var outcome = await SuperviseAsync(supervisor, store?.Port, log).ConfigureAwait(false);
            recorder.Ended(outcome);
            if (plan.Mode == "train" && outcome.ExitCode == ExitCodes.Done && config.Train.SampleTokens > 0)
            {
                ShowSample(plan.Folder, config, view);
            }

            view.Ended(outcome);
            return outcome;
        }
    }

    // While ranks run, signals are requests to them; afterwards they end this process as they end any other.
    private static async Task<RunOutcome> SuperviseAsync(Supervisor supervisor, int? storePort, TextWriter log)
    {
        using var signals = new StopSignals(supervisor.RequestStop, supervisor.RequestLeave);
        return await supervisor.RunAsync(storePort, log).ConfigureAwait(false);
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
        else if (outcome.ExitCode == ExitCodes.Stopped)
        {
            host.Screen.Error.WriteLine($"stopped; to continue: {FailureReport.ContinueCommand(plan, folder, host.Command)}");
        }
    }

    private static RunFolderOpening Open(RunRequest request, RunConfig config, LaunchHost host)
    {
        if (request.RunFolder is { } named)
        {
            return RunFolderOpening.OpenNamed(named, startsAfresh: request.Resume == "none");
        }

        var name = request.Mode == "train" ? config.Run.Name : $"{request.Mode}-{config.Run.Name}";
        return RunFolderOpening.Create(Repository.RunsFolder(host.WorkingDirectory), name);
    }

    // A run folder holds all that its learning rate follows from: it can be moved, and continued when the original is gone.
    private static RunConfig WithOwnSchedule(RunConfig config, RunFolder folder)
    {
        if (config.Schedule is not { Name: ScheduleName.Refined, File: { } original })
        {
            return config;
        }

        if (Path.GetFullPath(original) != Path.GetFullPath(folder.ScheduleFile))
        {
            File.Copy(original, folder.ScheduleFile, overwrite: true);
        }

        return config with { Schedule = config.Schedule with { File = Path.GetFileName(folder.ScheduleFile) } };
    }

    // Before config.yaml is replaced: sampling and evaluation read it together with the checkpoints that are there.
    private static void RefuseOtherModel(RunFolder folder, RunConfig config, LaunchHost host)
    {
        if (!File.Exists(folder.LatestFile) || !File.Exists(folder.ConfigFile))
        {
            return;
        }

        var earlier = ConfigReader.Read(folder.ConfigFile, []).Config;
        var before = ConfigYaml.Write(new RunConfig { Model = earlier.Model }).Split('\n');
        var now = ConfigYaml.Write(new RunConfig { Model = config.Model }).Split('\n');
        var differences = before.Zip(now).Where(lines => lines.First != lines.Second).Select(lines => $"{lines.Second.Trim()} (was {lines.First.Trim()})").ToList();
        if (differences.Count > 0)
        {
            var file = host.Shorten(folder.ConfigFile);
            throw new LaunchException(
                ExitCodes.Usage,
                $"'{host.Shorten(folder.Path)}' holds checkpoints of another model: {string.Join(", ", differences)}",
                $"--config {file} to continue it, or another --run-dir");
        }
    }

    private static string ResumePoint(RunRequest request, LaunchHost host)
    {
        if (request.Resume is "auto" or "none")
        {
            return request.Resume;
        }

        var path = Path.GetFullPath(request.Resume, host.WorkingDirectory);
        return Directory.Exists(path)
            ? path
            : throw new LaunchException(ExitCodes.Usage, $"--resume {request.Resume}: there is no such checkpoint folder", "a folder such as runs/NAME/checkpoints/step_00000300, or auto, or none");
    }

    private static int Threads(RunConfig config, int worldSize) => config.Parallel.Threads ?? Math.Max(1, Environment.ProcessorCount / worldSize);
}
