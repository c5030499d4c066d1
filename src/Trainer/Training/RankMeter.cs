using System.Diagnostics;
using Moe.Distributed;

namespace Moe.Training;

/// <summary>
/// What a rank measures of itself from one logged step to the next. A reading is taken at the step's last exchange, and carries the numbers to all
/// ranks with it: between two readings lie whole steps, each from one such exchange to the next.
/// </summary>
/// <remarks>Ranks wait for each other in every step, so all have the same step time; which of them the others wait for shows in the busy time.</remarks>
public sealed class RankMeter
{
    /// <summary>From the exchange of one step to that of the next, mean over the steps.</summary>
    public const string StepTime = "perf/step_ms";

    /// <summary>The step time less all waiting in collectives; the slowest rank has the largest.</summary>
    public const string BusyTime = "perf/busy_ms";

    /// <summary>Waiting for all-to-alls in a step.</summary>
    public const string AllToAllTime = "perf/all_to_all_ms";

    /// <summary>Reading the micro-batches of a step.</summary>
    public const string DataTime = "perf/data_ms";

    /// <summary>The largest resident size that the process has had.</summary>
    public const string PeakMemory = "mem/peak_resident_gib";

    /// <summary>The most memory that the rank has had for computing: bytes in tensors of its GPU, or the resident size where it computes on the CPU.</summary>
    public const string PeakCompute = "perf/peak_gib";

    private const double GibiByte = 1L << 30;

    private readonly long _began = Stopwatch.GetTimestamp();
    private readonly CollectiveTrace _trace;
    private readonly TrainingBatches _batches;
    private readonly Func<long>? _peakOfDevice;
    private Marks _last;
    private Marks _away;
    private Marks _left;
    private long _step;

    /// <summary>Begins to measure.</summary>
    /// <param name="trace">Counts this rank's waiting.</param>
    /// <param name="batches">Counts its reading.</param>
    /// <param name="step">Steps done up to now.</param>
    /// <param name="peakOfDevice">Bytes in tensors of this rank's GPU at most; null where it computes on the CPU.</param>
    public RankMeter(CollectiveTrace trace, TrainingBatches batches, long step, Func<long>? peakOfDevice = null)
    {
        (_trace, _batches, _step, _peakOfDevice) = (trace, batches, step, peakOfDevice);
        _last = Now();
    }

    /// <summary>Keys of a reading, in its order.</summary>
    public static IReadOnlyList<string> Keys { get; } = [StepTime, BusyTime, AllToAllTime, DataTime, PeakMemory, PeakCompute];

    /// <summary>Stops measuring: what follows is no part of a step.</summary>
    public void Pause() => _left = Now();

    /// <summary>Goes on measuring.</summary>
    public void Resume() => _away += Now() - _left;

    /// <summary>This rank's numbers since the last reading, by <see cref="Keys"/>.</summary>
    /// <param name="step">The step under way, the first being 1.</param>
    public double[] Read(long step)
    {
        var now = Now() - _away;
        var each = (now - _last).Over(step - _step);
        (_last, _step) = (now, step);
        using var process = Process.GetCurrentProcess();
        var resident = process.PeakWorkingSet64 / GibiByte;
        return
        [
            each.Clock.TotalMilliseconds,
            (each.Clock - each.Waited).TotalMilliseconds,
            each.AllToAll.TotalMilliseconds,
            each.Reading.TotalMilliseconds,
            resident,
            _peakOfDevice is null ? resident : _peakOfDevice() / GibiByte,
        ];
    }

    private Marks Now() => new(Stopwatch.GetElapsedTime(_began), Waited(), _trace.Totals(Collective.AllToAll).Waited, _batches.ReadTime);

    private TimeSpan Waited()
    {
        var sum = TimeSpan.Zero;
        foreach (var collective in Enum.GetValues<Collective>())
        {
            sum += _trace.Totals(collective).Waited;
        }

        return sum;
    }

    private readonly record struct Marks(TimeSpan Clock, TimeSpan Waited, TimeSpan AllToAll, TimeSpan Reading)
    {
        public static Marks operator +(Marks a, Marks b) => new(a.Clock + b.Clock, a.Waited + b.Waited, a.AllToAll + b.AllToAll, a.Reading + b.Reading);

        public static Marks operator -(Marks a, Marks b) => new(a.Clock - b.Clock, a.Waited - b.Waited, a.AllToAll - b.AllToAll, a.Reading - b.Reading);

        public Marks Over(long steps) => new(Clock / steps, Waited / steps, AllToAll / steps, Reading / steps);
    }
}
