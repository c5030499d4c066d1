using System.Diagnostics;
using Moe.Training.Hosting;

namespace Moe.Launch.Terminal;

/// <summary>The numbers behind the live view: where the run stands, how its loss went, and how long it will take.</summary>
internal sealed class RunProgress
{
    private const int KeptLosses = 512;

    private readonly List<double> _losses = [];
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private double _secondsPerStep;
    private int _rows;
    private TimeSpan _lastRowAt;
    private (long Step, TimeSpan At)? _checkpoint;

    public long Step { get; private set; }

    public long LastStep { get; private set; }

    /// <summary>Training losses in the order of their steps.</summary>
    public IReadOnlyList<double> Losses => _losses;

    /// <summary>The latest value of each key, of training and evaluation rows alike.</summary>
    public Dictionary<string, double> Values { get; } = [];

    /// <summary>Latest load of each expert over their mean [E]; empty before the first row.</summary>
    public IReadOnlyList<double> ExpertLoad { get; private set; } = [];

    /// <summary>How the ranks compare.</summary>
    public RankPaces Ranks { get; } = new();

    /// <summary>The newest checkpoint of this attempt and its age; null before the first.</summary>
    public (long Step, TimeSpan Age)? Checkpoint => _checkpoint is var (step, at) ? (step, _clock.Elapsed - at) : null;

    /// <summary>Share of a step that goes into waiting for all-to-alls; null where it is not measured.</summary>
    public double? AllToAllShare =>
        Values.TryGetValue("perf/all_to_all_ms", out var transfer) && Values.TryGetValue("perf/step_ms", out var step) && step > 0 ? transfer / step : null;

    /// <summary>Time to the last step at the speed of the latest rows; null before two rows came.</summary>
    public TimeSpan? Remaining => _secondsPerStep > 0 ? TimeSpan.FromSeconds(_secondsPerStep * Math.Max(0, LastStep - Step)) : null;

    /// <summary>Sets where the run starts and where it ends.</summary>
    public void Begin(long firstStep, long lastStep)
    {
        Step = firstStep;
        LastStep = lastStep;
        _lastRowAt = _clock.Elapsed;
    }

    /// <summary>Takes in something that happened once.</summary>
    public void Add(EventMessage e)
    {
        if (e.Kind == "checkpoint")
        {
            _checkpoint = (e.Step, _clock.Elapsed);
        }
    }

    /// <summary>Takes in a row of metrics.</summary>
    public void Add(MetricsMessage metrics)
    {
        var row = metrics.Row;
        ExpertLoad = metrics.ExpertLoad ?? ExpertLoad;
        if (metrics.Ranks is { } ranks)
        {
            Ranks.Add(ranks);
        }

        foreach (var (key, value) in row)
        {
            Values[key] = value;
        }

        if (row.TryGetValue("train/loss", out var loss))
        {
            _losses.Add(loss);
            if (_losses.Count > KeptLosses)
            {
                _losses.RemoveAt(0);
            }
        }

        if (row.TryGetValue("step", out var step) && (long)step > Step)
        {
            // Evaluations and checkpoints count, as they do for the one who waits; older rows fade.
            var seconds = (_clock.Elapsed - _lastRowAt).TotalSeconds / ((long)step - Step);
            // The first row has the start in it, and says nothing of the second.
            _secondsPerStep = _rows > 1 ? 0.8 * _secondsPerStep + 0.2 * seconds : seconds;
            _rows++;
            _lastRowAt = _clock.Elapsed;
            Step = (long)step;
        }
    }
}
