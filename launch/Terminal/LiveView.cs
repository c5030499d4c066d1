using System.Globalization;
using Moe.Launch.Supervision;
using Moe.Training.Hosting;
using Moe.Training.Profiling;

namespace Moe.Launch.Terminal;

/// <summary>A few lines at the bottom of the terminal that say how the run stands; what is said once scrolls by above them.</summary>
internal sealed class LiveView : IRunView
{
    private const int WidestBar = 40;
    private const int WidestExperts = 32;
    private const int WidestLosses = 24;
    private const int MostSlowRanks = 3;

    private readonly RunProgress _progress = new();
    private readonly LiveRegion _region;
    private readonly Glyphs _glyphs;

    private RunHeader? _header;
    private TrackerLine? _tracker;
    private InfoMessage? _info;
    private bool _isOver;

    /// <param name="screen">A terminal that can move its cursor.</param>
    public LiveView(Screen screen)
    {
        _glyphs = screen.Glyphs;
        _region = new LiveRegion(screen);
    }

    public void Started(RunHeader header) => _region.Change(() =>
    {
        _header = header;
        _tracker = new TrackerLine(new RunFolder(header.Folder));
        _progress.Begin(0, header.Steps);
        _region.Say(header.FirstLine);
        _region.Say($"run {header.Folder}");
        _region.Show(Draw);
    });

    public void Info(InfoMessage info) => _region.Change(() =>
    {
        _info = info;
        _progress.Begin(info.FirstStep, info.LastStep);
        if (info.ResumedFrom is { } checkpoint)
        {
            _region.Say($"continued from {checkpoint}");
        }
    });

    public void Metrics(MetricsMessage metrics) => _region.Change(() => _progress.Add(metrics));

    public void Event(EventMessage e) => _region.Change(() =>
    {
        _progress.Add(e);
        _region.Say(MetricText.Invariant($"step {e.Step}: {e.Text}"));
    });

    public void Text(string line) => _region.Change(() => _region.Say(line));

    public void Profile(ProfileTable table) => _region.Change(() =>
    {
        foreach (var line in table.Lines)
        {
            _region.Say(line);
        }
    });

    public void Notice(string text) => _region.Change(() => _region.Say(text));

    public void Ended(RunOutcome outcome) => _region.Change(() =>
    {
        _isOver = true;
        _region.Say($"{outcome.Status} after {MetricText.Duration(outcome.Elapsed)}");
    });

    public ValueTask DisposeAsync() => _region.DisposeAsync();

    private IReadOnlyList<StyledLine> Draw(int width, int height)
    {
        var lines = new List<StyledLine>(Packed(HeaderFields(_header!), width));
        if (_info is not null && _progress.LastStep > 0)
        {
            lines.Add(Bar(width));
            lines.AddRange(Packed(LossFields(), width));
            lines.AddRange(Packed(ExpertFields(), width));
            lines.AddRange(Packed(RunFields(), width));
        }

        return lines;
    }

    private IEnumerable<StyledLine> HeaderFields(RunHeader header)
    {
        yield return StyledLine.Of(header.Mode);
        yield return StyledLine.Of($"{header.WorldSize} ranks over {header.Backend}");
        if (_info is null)
        {
            yield return StyledLine.Of("starting");
            yield break;
        }

        yield return StyledLine.Of(_info.Mesh);
        yield return StyledLine.Of($"{MetricText.Size(_info.ParametersTotal)} parameters, {MetricText.Size(_info.ParametersActive)} active");
    }

    private IEnumerable<StyledLine?> LossFields()
    {
        var losses = Sparkline.Shrink(_progress.Losses, WidestLosses);
        var finite = losses.Where(double.IsFinite).DefaultIfEmpty(0).ToList();
        yield return Value("loss", "train/loss", "F3")?.Add(losses.Count > 1 ? " " + Sparkline.Draw(losses, finite.Min(), finite.Max(), _glyphs) : "", Style.Good);
        yield return Value("eval", "eval/loss", "F3");
        yield return Value("grad", "train/grad_norm", "F2");
        yield return Value("lr", "train/lr", "0.0e+00");
        yield return _progress.Values.TryGetValue("perf/tokens_per_s", out var speed) ? StyledLine.Of($"tokens/s {MetricText.Count(speed)}") : null;
        yield return _progress.Values.TryGetValue(MetricText.MemoryKey, out var memory) ? StyledLine.Of(MetricText.Invariant($"memory {memory:F2} GiB a rank")) : null;
    }

    private IEnumerable<StyledLine?> ExpertFields()
    {
        // From no tokens at all to twice the fair share.
        yield return _progress.ExpertLoad is { Count: > 0 } load
            ? StyledLine.Of("experts ").Add(Sparkline.Draw(Sparkline.Shrink(load, WidestExperts), 0, 2, _glyphs), Style.Good)
            : null;
        yield return Value("max/mean", "moe/load_max_over_mean", "F2");
        yield return Value("dead", "moe/dead_experts", "F0");
        yield return Value("balance", "train/balance_loss", "F3");
        yield return _progress.AllToAllShare is { } share ? StyledLine.Of(MetricText.Invariant($"all-to-all {100 * share:F0} % of step")) : null;
    }

    private IEnumerable<StyledLine?> RunFields()
    {
        if (_progress.Ranks.Pace.Count > 1)
        {
            var slow = _progress.Ranks.Slow();
            var named = string.Join(", ", slow.Take(MostSlowRanks).Select(rank => MetricText.Invariant($"{rank.Rank} (+{100 * rank.Excess:F0} %)")));
            var rest = slow.Count > MostSlowRanks ? $" and {slow.Count - MostSlowRanks} more" : "";
            yield return slow.Count == 0
                ? StyledLine.Of($"{_progress.Ranks.Pace.Count} ranks at one pace")
                : StyledLine.Of($"slow against the median: rank {named}{rest}", Style.Warning);
        }

        yield return _progress.Checkpoint is { } checkpoint
            ? StyledLine.Of(MetricText.Invariant($"checkpoint step {checkpoint.Step}{(_isOver ? "" : $", {MetricText.Duration(checkpoint.Age)} ago")}"))
            : null;
        yield return _tracker?.Text is { } tracker ? StyledLine.Of(tracker) : null;
        yield return _header!.Dashboard is { } dashboard ? StyledLine.Of($"dashboard {dashboard}") : null;
    }

    private StyledLine? Value(string name, string key, string format) =>
        _progress.Values.TryGetValue(key, out var value) ? StyledLine.Of($"{name} {value.ToString(format, CultureInfo.InvariantCulture)}") : null;

    private StyledLine Bar(int width)
    {
        var share = Math.Clamp((double)_progress.Step / _progress.LastStep, 0, 1);
        var text = MetricText.Invariant($" step {_progress.Step}/{_progress.LastStep}  {100 * share:F1} %")
            + (!_isOver && _progress.Remaining is { } left ? $"  {MetricText.Duration(left)} left" : "");
        var cells = Math.Clamp(width - text.Length, 0, WidestBar);
        var full = (int)Math.Round(share * cells);

        // Two glyphs, so that the bar can be read without colour.
        return StyledLine.Of(new string(_glyphs.Done, full), Style.Good).Add(new string(_glyphs.Open, cells - full), Style.Faint).Add(text);
    }

    // Fields side by side as far as the width goes, the others below; only a field wider than the terminal is cut.
    private static IEnumerable<StyledLine> Packed(IEnumerable<StyledLine?> fields, int width)
    {
        var line = new StyledLine();
        foreach (var field in fields.OfType<StyledLine>().Where(field => field.Length > 0))
        {
            if (line.Length > 0 && line.Length + 2 + field.Length > width)
            {
                yield return line;
                line = new StyledLine();
            }

            line.Add(line.Length > 0 ? "  " : "").Add(field);
        }

        if (line.Length > 0)
        {
            yield return line;
        }
    }
}
