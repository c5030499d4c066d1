using Moe.Launch.Terminal;

namespace Moe.Launch.Sweeps;

/// <summary>One table of all points at the bottom of the terminal, which changes in place; points that do not fit are counted below it.</summary>
internal sealed class LiveSweepView(LiveRegion region, string metric, Glyphs glyphs) : ISweepView
{
    private const int WidestCurve = 16;
    private const int LinesAround = 6; // of the table's head and foot, the prompt, and a spare one

    private IReadOnlyList<PointProgress> _points = [];

    public void Started(IReadOnlyList<PointProgress> points) => region.Change(() =>
    {
        _points = points;
        region.Show(Draw);
    });

    public void Changed(PointProgress point) => region.Change(() =>
    {
        if (point.Record is { Status: PointStatus.Failed, Error: { } error })
        {
            region.Say($"{point.Record.Name} failed: {error}");
        }
    });

    public void Progressed(PointProgress point) => region.Change(() => { });

    public void Notice(string text) => region.Change(() => region.Say(text));

    public ValueTask DisposeAsync() => region.DisposeAsync();

    private IReadOnlyList<StyledLine> Draw(int width, int height)
    {
        var shown = _points.OrderBy(Rank).Take(Math.Max(3, height - LinesAround)).OrderBy(point => _points.ToList().IndexOf(point)).ToList();
        var rows = shown.Select(Row).Prepend(["point", "status", "step", "loss", metric == "train/loss" ? "" : metric, "tokens/s", "left"]).ToList();
        var lines = TextTable.Lines(rows, width, alignRight: [2, 4, 5, 6]).ToList();
        var states = _points.GroupBy(point => point.Record.Status).Select(group => $"{group.Count()} {group.Key}");
        lines.Add($"{string.Join(", ", states)}{(shown.Count < _points.Count ? $"; {_points.Count - shown.Count} not shown" : "")}");
        return [.. lines.Select((line, i) => StyledLine.Of(line, i == 0 ? Style.Faint : Style.Plain))];
    }

    // What happens now comes first, and what went wrong.
    private static int Rank(PointProgress point) => point.Record.Status switch
    {
        PointStatus.Running => 0,
        PointStatus.Failed => 1,
        PointStatus.Waiting => 2,
        _ => 3,
    };

    private string[] Row(PointProgress point)
    {
        var record = point.Record;
        var losses = Sparkline.Shrink(point.Losses, WidestCurve);
        var finite = losses.Where(double.IsFinite).DefaultIfEmpty(0).ToList();
        var curve = losses.Count > 1 ? " " + Sparkline.Draw(losses, finite.Min(), finite.Max(), glyphs) : "";
        return
        [
            record.Name,
            record.Status,
            record.Step > 0 ? MetricText.Invariant($"{record.Step}/{point.Steps}") : "",
            record.Loss is { } loss ? MetricText.Invariant($"{loss:F3}{curve}") : "",
            metric != "train/loss" && record.Value is { } value ? MetricText.Invariant($"{value:G5}") : "",
            record.Status == PointStatus.Running && point.Speed is { } speed ? MetricText.Count(speed) : "",
            point.Remaining is { } left ? MetricText.Duration(left) : "",
        ];
    }
}
