using System.Diagnostics;
using System.Globalization;
using Microsoft.Extensions.Logging;
using Moe.Distributed;
using Moe.Distributed.Gloo;
using Moe.Distributed.Mpi;
using Moe.Distributed.Nccl;
using Moe.Torch;
using Moe.Training.Benchmarks;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using Moe.Training.Planning;
using Moe.Training.Profiling;
using Moe.Training.Reports;
using Moe.Training.Tracking;
using Moe.Training.Verification;

namespace Moe.Training.Hosting;

/// <summary>From a rank's arguments to its exit code: joins the other ranks, builds the session, resumes, and runs the loop.</summary>
internal sealed class RankJob(
    RankArguments arguments, RankEnvironment rank, TrackingEnvironment tracking, SupervisorLink link, CollectiveTrace trace, ILogger logger)
{
    // A failed rank tells MLflow so, but not for long.
    private static readonly TimeSpan LastWords = TimeSpan.FromSeconds(3);

    private Device _device;
    private RunTracker? _tracker; // of rank 0

    private bool IsFirst => rank.Rank == 0;

    public int Run()
    {
        try
        {
            var exitCode = RunTogether();
            if (IsFirst && arguments.Mode == "train")
            {
                FinishAlone(exitCode);
            }

            return exitCode;
        }
        catch (Exception e) when (TellTracker(e))
        {
            throw new UnreachableException();
        }
        finally
        {
            _tracker?.Dispose();
        }
    }

    // All in which ranks wait for one another. What rank 0 does after it may take longer than a collective.
    private int RunTogether()
    {
        var config = ConfigReader.Read(arguments.ConfigFile, []).Config;
        TorchRuntime.KeepFreedMemory();

        // Whoever starts the ranks knows how many share the machine: the launcher's nodes may all be this one.
        TorchRuntime.Threads = config.Parallel.Threads ?? rank.Threads ?? Math.Max(1, Environment.ProcessorCount / rank.LocalWorldSize);
        logger.Starting(rank.Rank, rank.WorldSize, arguments.Backend, TorchRuntime.Version, TorchRuntime.Threads);
        _device = DeviceOf(config.Parallel.Device);
        using var store = OwnStore();
        var world = Join(TimeSpan.FromSeconds(config.Parallel.TimeoutSeconds));
        var exitCode = arguments.Mode switch
        {
            "verify" => Verify(config, world),
            "bench" when arguments.Kernels is { } family => BenchKernels(family, config, world),
            "bench" => Bench(config, world),
            _ => Train(config, world),
        };
        world.Close();
        return exitCode;
    }

    private Device DeviceOf(DeviceName name)
    {
        if (name == DeviceName.Cpu)
        {
            return Device.Cpu;
        }

        if (rank.MachineRank >= CudaRuntime.DeviceCount)
        {
            throw new ConfigException(
                "parallel.device",
                $"parallel.device is cuda, but rank {rank.MachineRank} of this machine (counted from 0) sees {CudaRuntime.DeviceCount} GPU(s); start at most as many ranks as a "
                + "machine has GPUs, set parallel.device to cpu, or see docs/gpu.md for the native library with CUDA");
        }

        CudaRuntime.Use(Device.Cuda(rank.MachineRank));
        return Device.Cuda(rank.MachineRank);
    }

    private ProcessGroup Join(TimeSpan timeout) => arguments.Backend switch
    {
        "mpi" => Checked(MpiProcessGroup.Initialize(timeout, trace)),
        "gloo" when rank.WorldSize > 1 => GlooProcessGroup.Connect(
            Store, rank.Rank, rank.WorldSize, timeout, trace, spansMachines: rank.WorldSize > rank.LocalWorldSize, networkInterface: rank.GlooInterface),
        "nccl" when rank.WorldSize > 1 => NcclProcessGroup.Connect(
            Store,
            rank.Rank,
            rank.WorldSize,
            _device.IsCuda ? _device : throw new ConfigException("parallel.device", "the nccl backend moves the memory of GPUs; parallel.device is cpu"),
            timeout,
            trace,
            library: rank.NcclLibrary),
        "gloo" or "nccl" or "single" when rank.WorldSize == 1 => new SingleProcessGroup(timeout, trace),
        _ => throw new ConfigException("", $"backend '{arguments.Backend}' cannot join {rank.WorldSize} ranks; take mpi, gloo or nccl"),
    };

    // torchrun and our launcher keep the store themselves; srun alone has none, and there the first rank does.
    private StoreServer? OwnStore() => IsFirst && rank is { Supervisor: null, IsSlurmTask: true, WorldSize: > 1 } && arguments.Backend is "gloo" or "nccl"
        ? new StoreServer(rank.MasterPort)
        : null;

    // Under srun without --mpi=pmix each process would be an MPI world of its own and train the whole model alone.
    private MpiProcessGroup Checked(MpiProcessGroup world) => world.Size == rank.WorldSize && world.Rank == rank.Rank
        ? world
        : throw new ConfigException(
            "", $"MPI says rank {world.Rank} of {world.Size}, the environment rank {rank.Rank} of {rank.WorldSize}; under Slurm: srun --mpi=pmix, where `srun --mpi=list` has it");

    private StoreAddress Store => new(
        rank.MasterAddress ?? throw new ConfigException("", $"the {arguments.Backend} backend needs MASTER_ADDR and MASTER_PORT in the environment"),
        rank.MasterPort,
        rank.Restarts.ToString(CultureInfo.InvariantCulture));

    private int Verify(RunConfig config, ProcessGroup world)
    {
        using var mesh = Mesh(config, world);
        var verification = new MeshVerification(config, mesh, Folder.Path, line =>
        {
            if (IsFirst)
            {
                link.ReportText(line);
            }
        }, _device);
        return verification.Run() ? ExitCodes.Done : ExitCodes.Failed;
    }

    private int Bench(RunConfig config, ProcessGroup world)
    {
        // Steps of the schedule, so that none of those measured has a learning rate of 0.
        var steps = config.Train with { Steps = Math.Max(config.Train.Steps, arguments.Warmup + arguments.Repeats + StepBenchmark.MostProfiled), EvalEvery = 0 };
        using var mesh = Mesh(config, world);
        using var session = new TrainingSession(Within(config with { Train = steps }, mesh), mesh, new CheckpointFolder(Folder.CheckpointsFolder), device: _device);
        var benchmark = new StepBenchmark(session, arguments.Warmup, arguments.Repeats, arguments.Profile, Warn);
        var row = benchmark.Run();
        if (IsFirst)
        {
            if (benchmark.Profile is { } profile)
            {
                link.ReportProfile(profile);
            }

            link.ReportMetrics(row);
        }

        return ExitCodes.Done;
    }

    private int BenchKernels(string family, RunConfig config, ProcessGroup world)
    {
        using var mesh = new DeviceMesh(world, config.Parallel.ExpertParallel ?? world.Size);
        var report = KernelBench.Run(family, config, mesh, _device, arguments.Warmup, arguments.Repeats);
        if (IsFirst)
        {
            link.ReportKernels(report);
        }

        return ExitCodes.Done;
    }

    private int Train(RunConfig config, ProcessGroup world)
    {
        using var mesh = Mesh(config, world);
        var checkpoints = new CheckpointFolder(Folder.CheckpointsFolder);
        using var resumed = ResumeSource.Choose(arguments.Resume, checkpoints, world, Warn);
        var adapted = resumed is null ? config : Continuation.Adapt(resumed.Checkpoint.Manifest.Position, config, world.Size, Warn);
        using var session = new TrainingSession(Within(adapted, mesh), mesh, checkpoints, device: _device);
        if (resumed is not null)
        {
            session.Resume(resumed.Checkpoint, Warn);
        }

        var info = new InfoMessage(
            session.Parameters.Total, session.Parameters.Active, mesh.ToString(), session.Step, config.Train.Steps, resumed?.Folder);
        if (IsFirst)
        {
            link.ReportInfo(info);
            if (session.MeasuredChoice is { } choice)
            {
                link.ReportEvent("dispatcher", session.Step, choice);
            }
        }

        BeginTracking(config, world, info);
        var end = Loop(session);
        logger.Ended(end, session.Step);
        return end == TrainingEnd.Finished ? ExitCodes.Done : ExitCodes.Stopped;
    }

    private DeviceMesh Mesh(RunConfig config, ProcessGroup world)
    {
        var expertParallel = config.Parallel.ExpertParallel ?? world.Size;
        return new(world, expertParallel) { RanksPerNode = RanksPerNode(world), SpansMachines = MachineLayout.Gather(world).Spans(expertParallel) };
    }

    // Nodes may differ in their number of ranks; then none of them counts as one.
    private int RanksPerNode(ProcessGroup world)
    {
        var least = (int)world.AllReduce((double)rank.RanksPerNode, ReduceOperation.Min);
        return least == (int)world.AllReduce((double)rank.RanksPerNode, ReduceOperation.Max) ? least : 1;
    }

    private TrainingEnd Loop(TrainingSession session)
    {
        using var rows = IsFirst ? new RunRows(Folder, session.Step) : null;
        var train = session.Config.Train;
        var last = train.StopAtStep > session.Step ? train.StopAtStep.Value : train.Steps;
        using var profiler = arguments.Profile is { } request && last > session.Step
            ? new StepProfiler(request, session.Mesh.World, session.Device, session.Step, last, Warn)
            : null;
        return new TrainingLoop(session, link, rows) { Profiler = profiler, Profiled = Tell }.Run();
    }

    // What the launcher shows stays with the run.
    private void Tell(ProfileTable table)
    {
        link.ReportProfile(table);
        try
        {
            File.WriteAllLines(Folder.ProfileFile, table.Lines);
        }
        catch (Exception e) when (DiskFault.IsOne(e))
        {
            Warn($"{Path.GetFileName(Folder.ProfileFile)} could not be written: {e.Message}");
        }
    }

    private void BeginTracking(RunConfig config, ProcessGroup world, InfoMessage info)
    {
        var hosts = RankHosts.Gather(world);
        if (!IsFirst)
        {
            return;
        }

        foreach (var warning in tracking.Warnings)
        {
            Warn(warning);
        }

        var description = RunDescription.Of(config, info, arguments.Backend, hosts, tracking, Folder);
        _tracker = RunTracker.Open(Folder, TrackingSettings.Of(config, tracking, Folder), description, info.FirstStep, Warn);
        link.Reported += message => _tracker?.Observe(message);
    }

    // Where the launcher watches, it has the last word on how the run ended, and says what MLflow lacks.
    private void FinishAlone(int exitCode)
    {
        Report.WriteAtEnd(Folder, exitCode == ExitCodes.Done ? "done" : "stopped", Warn); // before the tracker ends, which sends it
        if (_tracker?.Finish(TrackedStatus.Of(exitCode)) is false && rank.Supervisor is null)
        {
            link.ReportText(_tracker.Rest);
        }
    }

    // A filter that takes nothing: the failure is to be reported before anything is disposed (RankService).
    private bool TellTracker(Exception exception)
    {
        var status = TrackedStatus.Of(FailureAccount.Of(exception, rank.Rank, trace.Step ?? 0).ExitCode);
        _tracker?.Finish(status, rank.Supervisor is null ? LastWords : TimeSpan.Zero);
        return false;
    }

    // What is computed again or offloaded so that the run keeps within its memory: the same on every rank, since nothing of its machine goes in.
    private RunConfig Within(RunConfig config, DeviceMesh mesh)
    {
        if (config.Train is { MemoryBudget: null, Recompute: Recompute.Auto or Recompute.None, Offload: not Offload.Activations })
        {
            return config;
        }

        var decision = MemoryBudget.Decide(config, mesh.World.Size, mesh.RanksPerNode);
        if (IsFirst)
        {
            link.ReportEvent("memory", trace.Step ?? 0, decision.ToString());
            logger.Planned(decision.ToString());
        }

        return config with { Train = decision.Choice.In(config.Train) };
    }

    private RunFolder Folder => new(rank.RunFolder ?? Path.GetDirectoryName(Path.GetFullPath(arguments.ConfigFile))!);

    private void Warn(string text)
    {
        if (IsFirst)
        {
            link.ReportEvent("warning", trace.Step ?? 0, text);
            logger.Warned(text);
        }
    }
}

/// <summary>The lines of a rank's log.</summary>
internal static partial class RankLogMessages
{
    [LoggerMessage(1, LogLevel.Information, "rank {Rank} of {World}, backend {Backend}, libtorch {Version}, {Threads} thread(s)")]
    public static partial void Starting(this ILogger logger, int rank, int world, string backend, string version, int threads);

    [LoggerMessage(2, LogLevel.Information, "{End} after step {Step}")]
    public static partial void Ended(this ILogger logger, TrainingEnd end, long step);

    [LoggerMessage(3, LogLevel.Warning, "{Text}")]
    public static partial void Warned(this ILogger logger, string text);

    [LoggerMessage(4, LogLevel.Information, "memory: {Text}")]
    public static partial void Planned(this ILogger logger, string text);
}
