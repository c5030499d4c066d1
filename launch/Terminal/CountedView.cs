using Moe.Launch.Supervision;
using Moe.Training.Hosting;
using Moe.Training.Profiling;

namespace Moe.Launch.Terminal;

/// <summary>A view that shows a warning when it first comes and then counts it, instead of the same line again and again.</summary>
/// <param name="view">Shows the rest as it is.</param>
internal sealed class CountedView(IRunView view) : IRunView
{
    private readonly Dictionary<string, int> _warnings = [];

    public void Started(RunHeader header) => view.Started(header);

    public void Info(InfoMessage info) => view.Info(info);

    public void Metrics(MetricsMessage metrics) => view.Metrics(metrics);

    public void Event(EventMessage e)
    {
        if (e.Kind != "warning")
        {
            view.Event(e);
        }
        else if (Due(e.Text) is { } count)
        {
            view.Event(count == 1 ? e : e with { Text = MetricText.Invariant($"{e.Text} ({count} times so far)") });
        }
    }

    public void Text(string line) => view.Text(line);

    public void Profile(ProfileTable table) => view.Profile(table);

    public void Notice(string text)
    {
        if (Due(text) is { } count)
        {
            view.Notice(count == 1 ? text : MetricText.Invariant($"{text} ({count} times so far)"));
        }
    }

    public void Ended(RunOutcome outcome)
    {
        foreach (var (text, count) in _warnings.Where(warning => warning.Value > 1 && !IsPowerOfTen(warning.Value)))
        {
            view.Notice(MetricText.Invariant($"{text} ({count} times in all)"));
        }

        view.Ended(outcome);
    }

    public ValueTask DisposeAsync() => view.DisposeAsync();

    // How often it has come; null where it is not shown this time.
    private int? Due(string text)
    {
        var count = _warnings[text] = _warnings.GetValueOrDefault(text) + 1;
        return IsPowerOfTen(count) ? count : null;
    }

    private static bool IsPowerOfTen(int count)
    {
        while (count % 10 == 0)
        {
            count /= 10;
        }

        return count == 1;
    }
}
