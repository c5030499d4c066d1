using Moe.Distributed;
using Moe.Torch;
using Moe.Training.Hosting;

namespace Moe.Training.Profiling;

/// <summary>
/// Profiles some steps of a training: every rank keeps its spans, and the first gathers them into one trace and one table. Every rank calls it at the same steps.
/// </summary>
public sealed class StepProfiler : IDisposable
{
    private readonly ProfileRequest _request;
    private readonly ProcessGroup _world;
    private readonly Device _device;
    private readonly Action<string> _warn;
    private readonly StepRange? _steps;
    private SpanRecording? _recording;

    /// <param name="request">What is asked for.</param>
    /// <param name="world">All ranks.</param>
    /// <param name="device">Where this rank computes.</param>
    /// <param name="done">Steps done.</param>
    /// <param name="last">The last step to come.</param>
    /// <param name="warn">Told what went wrong without being worth the end of a training.</param>
    public StepProfiler(ProfileRequest request, ProcessGroup world, Device device, long done, long last, Action<string> warn)
    {
        (_request, _world, _device, _warn) = (request, world, device, warn);
        _steps = request.StepsAfter(done, last);
        if (_steps is null)
        {
            warn(FormattableString.Invariant($"nothing is profiled: the training goes on after step {done}, beyond --profile-steps {request.Steps}"));
        }
        else if (request.Kernels && _steps.Value.Last >= last)
        {
            warn(FormattableString.Invariant($"no kernels are profiled: no step is left after step {_steps.Value.Last}"));
        }
    }

    /// <summary>The steps that are profiled; null for none.</summary>
    public StepRange? Steps => _steps;

    /// <summary>The span of a step, for around all that belongs to it; none where nothing is recorded.</summary>
    public static Span OpenStep(long step) => Spans.IsOn ? Spans.Phase(FormattableString.Invariant($"{StepAccount.StepName}{step}")) : default;

    /// <summary>Whether something begins before a step.</summary>
    public bool BeginsBefore(long step) => step == _steps?.First || IsOfKernels(step);

    /// <summary>Whether something ends behind a step.</summary>
    /// <param name="step">The step that was made.</param>
    /// <param name="isLast">Whether none follows, for whatever reason.</param>
    public bool EndsBehind(long step, bool isLast) => IsOfKernels(step) || (_recording is not null && (isLast || step == _steps?.Last));

    /// <summary>Begins what is to begin before a step.</summary>
    /// <param name="step">The step that follows, the first being 1.</param>
    public void Begin(long step)
    {
        if (step == _steps?.First)
        {
            _world.Barrier(); // the ranks' clocks have one beginning
            _recording = SpanRecording.Begin(_device);
        }
        else if (IsOfKernels(step))
        {
            CudaRuntime.Synchronize();
            CudaRuntime.BeginProfile();
        }
    }

    /// <summary>Ends what is to end behind a step.</summary>
    /// <param name="step">The step that was made.</param>
    /// <param name="isLast">Whether none follows, for whatever reason.</param>
    /// <returns>The table, on the first rank where a profile has just ended; null otherwise.</returns>
    public ProfileTable? End(long step, bool isLast)
    {
        if (IsOfKernels(step))
        {
            CudaRuntime.Synchronize();
            CudaRuntime.EndProfile(_request.KernelFile(_world.Rank));
            return null;
        }

        return EndsBehind(step, isLast) ? Gather(step) : null;
    }

    /// <summary>Forgets what was recorded, where it did not come to an end.</summary>
    public void Dispose() => _recording?.Dispose();

    private bool IsOfKernels(long step) => _request.Kernels && step == _steps?.Last + 1;

    private ProfileTable? Gather(long step)
    {
        if (_device.IsCuda)
        {
            CudaRuntime.Synchronize();
        }

        _ = _world.Trace.Totals(Collective.AllToAll); // settles the collectives that only the device saw end
        var own = RankSpans.ToBytes(_recording!.End());
        _recording = null;
        var all = _world.GatherBytes(own);
        if (_world.Rank != 0)
        {
            return null;
        }

        RecordedSpans[] ranks = Array.ConvertAll(all, RankSpans.Read);
        var table = ProfileSummary.Of(ranks, _steps!.Value with { Last = step });
        return TryWrite(ranks) ? table with { TraceFile = _request.File } : table;
    }

    // The launcher has tried the place before; what fails now is a full disk.
    private bool TryWrite(IReadOnlyList<RecordedSpans> ranks)
    {
        try
        {
            using var trace = new MemoryStream();
            ChromeTrace.Write(trace, ranks);
            OutputFile.Write(_request.File, trace.ToArray());
            return true;
        }
        catch (Exception e) when (DiskFault.IsOne(e))
        {
            _warn($"the trace could not be written: {e.Message}");
            return false;
        }
    }
}
