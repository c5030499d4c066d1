using Moe.Launch.Terminal;

namespace Moe.Launch.Sweeps;

/// <summary>One table of all points at the bottom of the terminal, which changes in place; points that do not fit are counted below it.</summary>
internal sealed class LiveSweepView(LiveRegion region, string metric, Glyphs glyphs) : ISweepView
{
    private const int WidestCurve = 16;
    private const int LinesAround = 6; // of the table's head and foot, the prompt, and a spare one

    // What is drawn is copied when it changes: points change while another thread draws.
    private readonly List<Shown> _rows = [];

    public void Started(IReadOnlyList<PointProgress> points)
    {
        List<Shown> rows = [.. points.Select(Copy)];
        region.Change(() =>
        {
            _rows.AddRange(rows);
            region.Show(Draw);
        });
    }

    public void Changed(PointProgress point)
    {
        Progressed(point);
        if (point.Record is { Status: PointStatus.Failed, Name: var name, Error: { } error })
        {
            region.Change(() => region.Say($"{name} failed: {error}"));
        }
    }

    public void Progressed(PointProgress point)
    {
        var copy = Copy(point);
        region.Change(() => _rows[_rows.FindIndex(row => row.Cells[0] == copy.Cells[0])] = copy);
    }

    public void Notice(string text) => region.Change(() => region.Say(text));

    public ValueTask DisposeAsync() => region.DisposeAsync();

    private IReadOnlyList<StyledLine> Draw(int width, int height)
    {
        var shown = _rows.OrderBy(Rank).Take(Math.Max(3, height - LinesAround)).OrderBy(_rows.IndexOf).ToList();
        var rows = shown.Select(row => row.Cells).Prepend(["point", "status", "step", "loss", metric == "train/loss" ? "" : metric, "tokens/s", "left"]).ToList();
        var lines = TextTable.Lines(rows, width, alignRight: [2, 4, 5, 6]).ToList();
        var states = _rows.GroupBy(row => row.Status).Select(group => $"{group.Count()} {group.Key}");
        lines.Add($"{string.Join(", ", states)}{(shown.Count < _rows.Count ? $"; {_rows.Count - shown.Count} not shown" : "")}");
        return [.. lines.Select((line, i) => StyledLine.Of(line, i == 0 ? Style.Faint : Style.Plain))];
    }

    // What happens now comes first, and what went wrong.
    private static int Rank(Shown row) => row.Status switch
    {
        PointStatus.Running => 0,
        PointStatus.Failed => 1,
        PointStatus.Waiting => 2,
        _ => 3,
    };

    private Shown Copy(PointProgress point)
    {
        var record = point.Record;
        var losses = Sparkline.Shrink(point.Losses, WidestCurve);
        var finite = losses.Where(double.IsFinite).DefaultIfEmpty(0).ToList();
        var curve = losses.Count > 1 ? " " + Sparkline.Draw(losses, finite.Min(), finite.Max(), glyphs) : "";
        return new Shown(record.Status,
        [
            record.Name,
            record.Status,
            record.Step > 0 ? MetricText.Invariant($"{record.Step}/{point.Steps}") : "",
            record.Loss is { } loss ? MetricText.Invariant($"{loss:F3}{curve}") : "",
            metric != "train/loss" && record.Value is { } value ? MetricText.Invariant($"{value:G5}") : "",
            record.Status == PointStatus.Running && point.Speed is { } speed ? MetricText.Count(speed) : "",
            point.Remaining is { } left ? MetricText.Duration(left) : "",
        ]);
    }

    private sealed record Shown(string Status, string[] Cells);
}
