using System.Threading.Channels;
using Moe.Launch.Supervision;
using Moe.Training.Hosting;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace Moe.Launch.Terminal;

/// <summary>A few lines at the bottom of the terminal that change in place; what is said once scrolls by above them.</summary>
internal sealed class LiveView : IRunView
{
    private const int WidestBar = 40;
    private const int WidestExperts = 32;
    private const int WidestLosses = 24;

    private static readonly Text EmptyLine = new(" ");

    private readonly Channel<Action> _changes = Channel.CreateUnbounded<Action>();
    private readonly RunProgress _progress = new();
    private readonly IAnsiConsole _console;
    private readonly Task _drawing;

    private RunHeader? _header;
    private InfoMessage? _info;
    private IReadOnlyList<double> _expertLoad = [];

    /// <param name="console">A terminal that understands ANSI sequences.</param>
    public LiveView(IAnsiConsole console)
    {
        _console = console;
        _drawing = console.Live(Blank).StartAsync(async context =>
        {
            await foreach (var change in _changes.Reader.ReadAllAsync().ConfigureAwait(false))
            {
                change();
                context.UpdateTarget(Draw());
            }
        });
    }

    public void Started(RunHeader header) => Change(() =>
    {
        _header = header;
        _progress.Begin(0, header.Steps);
        Say(header.FirstLine);
        Say($"run {header.Folder}");
    });

    public void Info(InfoMessage info) => Change(() =>
    {
        _info = info;
        _progress.Begin(info.FirstStep, info.LastStep);
        if (info.ResumedFrom is { } checkpoint)
        {
            Say($"continued from {checkpoint}");
        }
    });

    public void Metrics(MetricsMessage metrics) => Change(() =>
    {
        _progress.Add(metrics.Row);
        _expertLoad = metrics.ExpertLoad ?? _expertLoad;
    });

    public void Event(EventMessage e) => Change(() => Say(MetricText.Invariant($"step {e.Step}: {e.Text}")));

    public void Text(string line) => Change(() => Say(line));

    public void Notice(string text) => Change(() => Say(text));

    public void Ended(RunOutcome outcome) => Change(() => Say($"{outcome.Status} after {MetricText.Duration(outcome.Elapsed)}"));

    public async ValueTask DisposeAsync()
    {
        _changes.Writer.Complete();
        await _drawing.ConfigureAwait(false);
    }

    private void Say(string text) => _console.Write(new ScrolledLine(text));

    private void Change(Action change) => _changes.Writer.TryWrite(change);

    // Two lines at least: above a single one Spectre moves the cursor up by 0 lines, which terminals read as 1, and what was said
    // last would be drawn over.
    private static Rows Blank => new(EmptyLine, EmptyLine);

    private Rows Draw()
    {
        if (_header is null)
        {
            return Blank;
        }

        var width = _console.Profile.Width - 1; // a full line would wrap on some terminals
        var lines = new List<IRenderable>();
        lines.AddRange(Packed(HeaderFields(_header), width));
        if (_info is not null && _progress.LastStep > 0)
        {
            lines.Add(Bar(width));
            lines.AddRange(Packed(LossFields(), width));
            lines.AddRange(Packed(ExpertFields(), width));
        }

        return lines.Count > 1 ? new Rows(lines) : new Rows(lines[0], EmptyLine);
    }

    private IEnumerable<string> HeaderFields(RunHeader header)
    {
        yield return header.Mode;
        yield return $"{header.WorldSize} ranks over {header.Backend}";
        if (_info is null)
        {
            yield return "starting";
            yield break;
        }

        yield return _info.Mesh;
        yield return $"{MetricText.Size(_info.ParametersTotal)} parameters, {MetricText.Size(_info.ParametersActive)} active";
    }

    private IEnumerable<string> LossFields()
    {
        var losses = Sparkline.Shrink(_progress.Losses, WidestLosses);
        var finite = losses.Where(double.IsFinite).DefaultIfEmpty(0).ToList();
        yield return Value("loss", "train/loss", "F3") + (losses.Count > 1 ? " " + Sparkline.Draw(losses, finite.Min(), finite.Max()) : "");
        yield return Value("eval", "eval/loss", "F3");
        yield return Value("grad", "train/grad_norm", "F2");
        yield return Value("lr", "train/lr", "0.0e+00");
        yield return _progress.Values.TryGetValue("perf/tokens_per_s", out var speed) ? $"tokens/s {MetricText.Count(speed)}" : "";
    }

    private IEnumerable<string> ExpertFields()
    {
        // From no tokens at all to twice the fair share.
        yield return _expertLoad.Count > 0 ? "experts " + Sparkline.Draw(Sparkline.Shrink(_expertLoad, WidestExperts), 0, 2) : "";
        yield return Value("max/mean", "moe/load_max_over_mean", "F2");
        yield return Value("dead", "moe/dead_experts", "F0");
        yield return Value("balance", "train/balance_loss", "F3");
        yield return _progress.Values.TryGetValue("perf/all_to_all_ms", out var transfer) && _progress.Values.TryGetValue("perf/step_ms", out var step) && step > 0
            ? MetricText.Invariant($"all-to-all {100 * transfer / step:F0} % of step")
            : "";
    }

    private string Value(string name, string key, string format) =>
        _progress.Values.TryGetValue(key, out var value) ? $"{name} {value.ToString(format, System.Globalization.CultureInfo.InvariantCulture)}" : "";

    private Markup Bar(int width)
    {
        var share = (double)_progress.Step / _progress.LastStep;
        var text = MetricText.Invariant($" step {_progress.Step}/{_progress.LastStep}  {100 * share:F1} %")
            + (_progress.Remaining is { } left ? $"  {MetricText.Duration(left)} left" : "");
        var cells = Math.Clamp(width - text.Length, 0, WidestBar);
        var full = (int)Math.Round(share * cells);

        // Two glyphs, so that the bar can be read without colour.
        return new Markup($"[green]{new string('━', full)}[/][grey]{new string('─', cells - full)}[/]{text}");
    }

    // Fields side by side as far as the width goes, the others below; nothing is cut.
    private static IEnumerable<Text> Packed(IEnumerable<string> fields, int width)
    {
        var line = "";
        foreach (var field in fields.Where(field => field.Length > 0))
        {
            if (line.Length > 0 && line.Length + 2 + field.Length > width)
            {
                yield return new Text(line);
                line = "";
            }

            line += (line.Length > 0 ? "  " : "") + field;
        }

        if (line.Length > 0)
        {
            yield return new Text(line);
        }
    }
}
