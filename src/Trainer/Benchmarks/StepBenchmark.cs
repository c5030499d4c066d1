using System.Diagnostics;
using Moe.Distributed;
using Moe.Torch;
using Moe.Training.Profiling;

namespace Moe.Training.Benchmarks;

/// <summary>Times whole training steps of a session: real data, real routing, the update included.</summary>
/// <remarks>
/// On a GPU a step ends when the host has its loss, while the device still makes the update: a step's time is that from the end of the one before to
/// its own, as in a training, and the device is waited for before the first and after the last.
/// </remarks>
/// <param name="session">At step 0, of a configuration with enough steps.</param>
/// <param name="warmup">Steps made first, unmeasured.</param>
/// <param name="repeats">Steps measured, at least 1.</param>
/// <param name="profile">What to profile of further steps; null for nothing.</param>
/// <param name="warn">Told what went wrong with that.</param>
internal sealed class StepBenchmark(TrainingSession session, int warmup, int repeats, ProfileRequest? profile = null, Action<string>? warn = null)
{
    /// <summary>Steps made at most for a profile.</summary>
    public const int MostProfiled = ProfiledSteps + 1;

    private const int ProfiledSteps = 3;

    // On a GPU they would be those of the host, which only queues the update.
    private static readonly string[] HostTimes = ["optimizer_ms", "optimizer_ms_p10", "optimizer_ms_p90", "optimizer_ns_per_parameter"];

    private readonly List<double> _stepMs = [];
    private readonly List<double> _optimizerMs = [];
    private long _calls;
    private long _operations;
    private double _allToAllMs;
    private long _begun;
    private long _mark;
    private double _loss;

    /// <summary>Where a step goes, on the first rank where that was asked for.</summary>
    public ProfileTable? Profile { get; private set; }

    /// <summary>Makes the steps, and puts what they took into a row. Every rank calls this; the row is the same on every rank but for noise.</summary>
    /// <returns>By name: milliseconds, tokens a second over all ranks, percentages of <see cref="MachineRates"/>.</returns>
    public Dictionary<string, double> Run()
    {
        var world = session.Mesh.World;
        var rates = MachineRates.Measure(world, session.Device, ModelAssembly.ComputeType(session.Config.Train.Precision));
        for (var step = 0; step < warmup + repeats; step++)
        {
            if (step == warmup)
            {
                Begin();
            }

            Advance(measured: step >= warmup);
        }

        var wholeMs = Finish().TotalMilliseconds;

        var peak = PeakGiB(); // of the measured steps alone
        if (profile is not null)
        {
            ProfileSteps(profile);
        }

        var time = Spread.Of(_stepMs);
        var isCuda = session.Device.IsCuda;
        var optimizer = Spread.Of(SlowestRanks());
        var tokensPerSecond = 1000 * session.Batches.TokensPerStep / time.Median;
        var operations = tokensPerSecond * session.Parameters.OperationsPerToken(session.Config.Model);
        var parameters = session.Parameters.Total;
        var row = new Dictionary<string, double>
        {
            ["tokens_per_s"] = tokensPerSecond,
            ["step_ms"] = time.Median,
            ["step_ms_p10"] = time.Low,
            ["step_ms_p90"] = time.High,
            ["step_ms_mean"] = wholeMs / repeats,
            ["all_to_all_ms"] = _allToAllMs / repeats,
            ["optimizer_ms"] = optimizer.Median,
            ["optimizer_ms_p10"] = optimizer.Low,
            ["optimizer_ms_p90"] = optimizer.High,
            ["optimizer_calls"] = (double)_calls / repeats,
            ["optimizer_gflop"] = world.AllReduce(_operations / 1e9 / repeats),
            ["optimizer_ns_per_parameter"] = 1e6 * optimizer.Median / parameters,
            ["optimizer_state_bytes_per_parameter"] = world.AllReduce(session.Optimizer.State.Sum(state => (double)state.Value.Count * state.Value.DType.Size())) / parameters,
            ["parameters"] = parameters,
            ["loss"] = _loss,
            ["tflops_per_rank"] = operations / world.Size / 1e12,
            ["tflops_per_gpu"] = isCuda ? operations / world.Size / 1e12 : 0,
            ["mfu_pct"] = 100 * operations / rates.ProductsPerSecond,
            ["peak_gib"] = peak,
            ["machine_tflops"] = rates.ProductsPerSecond / 1e12,
            ["machine_copy_gb_per_s"] = rates.BytesPerSecond / 1e9,
        };
        foreach (var key in isCuda ? HostTimes : [])
        {
            row.Remove(key);
        }

        return row;
    }

    // After those that are timed: what keeps spans takes its time.
    private void ProfileSteps(ProfileRequest request)
    {
        var (done, steps) = (session.Step, request.Kernels ? MostProfiled : ProfiledSteps);
        using var profiler = new StepProfiler(
            request with { Steps = new StepRange(done + 1, done + ProfiledSteps) }, session.Mesh.World, session.Device, done, done + steps, warn ?? (_ => { }));
        for (var step = done + 1; step <= done + steps; step++)
        {
            profiler.Begin(step);
            Advance(measured: false);
            Profile = profiler.End(step, isLast: false) ?? Profile;
        }
    }

    // All work of the warm-up is done when the time begins.
    private void Begin()
    {
        if (session.Device.IsCuda)
        {
            CudaRuntime.ResetPeak(session.Device);
            CudaRuntime.Synchronize();
        }

        session.Mesh.World.Barrier();
        _begun = _mark = Stopwatch.GetTimestamp();
    }

    private TimeSpan Finish()
    {
        if (session.Device.IsCuda)
        {
            CudaRuntime.Synchronize();
        }

        return Stopwatch.GetElapsedTime(_begun);
    }

    private void Advance(bool measured)
    {
        var trace = session.Mesh.World.Trace;
        trace.ResetTotals();
        if (!session.Device.IsCuda)
        {
            session.Mesh.World.Barrier();
            _mark = Stopwatch.GetTimestamp();
        }

        var result = Step();
        var elapsed = Stopwatch.GetElapsedTime(_mark);
        _mark = Stopwatch.GetTimestamp();
        _loss = result.Loss;
        if (measured)
        {
            _stepMs.Add(elapsed.TotalMilliseconds);
            _optimizerMs.Add(result.OptimizerTime.TotalMilliseconds);
            _calls += result.OptimizerCalls;
            _operations += session.Optimizer.Operations;
            _allToAllMs += trace.Totals(Collective.AllToAll).Waited.TotalMilliseconds;
        }
    }

    private StepResult Step()
    {
        using var span = StepProfiler.OpenStep(session.Step + 1);
        return session.Advance(stop: false);
    }

    // An update is made when its last rank has made it.
    private double[] SlowestRanks()
    {
        using var scope = new TensorScope();
        var slowest = Tensor.From(_optimizerMs.ToArray(), _optimizerMs.Count);
        session.Mesh.World.AllReduce(slowest, ReduceOperation.Max);
        return slowest.ToArray<double>();
    }

    // The largest resident size that a rank has had, or of a GPU's tensors in the measured steps.
    private double PeakGiB()
    {
        using var process = Process.GetCurrentProcess();
        var bytes = session.Device.IsCuda ? session.PeakDeviceBytes : process.PeakWorkingSet64;
        return session.Mesh.World.AllReduce(bytes / Math.Pow(2, 30), ReduceOperation.Max);
    }
}
