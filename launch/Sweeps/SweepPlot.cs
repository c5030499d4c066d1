using System.Globalization;
using System.Text;
using Moe.Training.Reports;

namespace Moe.Launch.Sweeps;

/// <summary>Draws a sweep as SVG: the training loss over the steps, one line a group, and the metric by the grid's values, with its spread over seeds.</summary>
internal static class SweepPlot
{
    private const int PictureWidth = 1000, PanelWidth = 400, PanelHeight = 300, Top = 40, LegendLine = 18;

    private const string Colors = """
        <style>
        text { font-family: system-ui, sans-serif; font-size: 12px; fill: #24292f } .title { font-weight: 600; font-size: 13px }
        .paper { fill: #ffffff } .frame { fill: none; stroke: #8c959f } .grid { stroke: #d0d7de; stroke-width: .6 }
        path { fill: none; stroke-width: 1.8 } .faint { opacity: .35; stroke-width: 1 } .dashed { stroke-dasharray: 6 3 } .dot { stroke: none }
        .s0 { stroke: #0969da } .s1 { stroke: #cf222e } .s2 { stroke: #1a7f37 } .s3 { stroke: #bf8700 } .s4 { stroke: #8250df } .s5 { stroke: #1b7c83 } .s6 { stroke: #bf3989 } .s7 { stroke: #6e7781 }
        .s0.dot { fill: #0969da } .s1.dot { fill: #cf222e } .s2.dot { fill: #1a7f37 } .s3.dot { fill: #bf8700 } .s4.dot { fill: #8250df } .s5.dot { fill: #1b7c83 } .s6.dot { fill: #bf3989 } .s7.dot { fill: #6e7781 }
        @media (prefers-color-scheme: dark) { text { fill: #c9d1d9 } .paper { fill: #0d1117 } .frame { stroke: #6e7681 } .grid { stroke: #30363d } }
        </style>

        """;

    /// <param name="request">Metric and grid.</param>
    /// <param name="points">Every run; one without rows leaves no line.</param>
    /// <param name="curves">By the point's name.</param>
    public static string Draw(SweepRequest request, IReadOnlyList<PointProgress> points, IReadOnlyDictionary<string, SweepCurve> curves)
    {
        var groups = points.Select(point => point.Record.Group).Distinct().ToList();
        var height = Top + PanelHeight + 56 + (LegendLine * ((groups.Count + 1) / 2)) + 10;
        var svg = new StringBuilder();
        svg.Append(CultureInfo.InvariantCulture, $"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {PictureWidth} {height}\" width=\"{PictureWidth}\" height=\"{height}\" role=\"img\">\n");
        svg.Append(CultureInfo.InvariantCulture, $"<title>training loss and {SvgPanel.Escape(request.Metric)} of {points.Count} runs</title>\n").Append(Colors);
        svg.Append("<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n");
        Losses(svg, points, curves, groups);
        Metric(svg, request, points, groups);
        for (var i = 0; i < groups.Count; i++)
        {
            var (x, y) = (70 + (i % 2 * 500), Top + PanelHeight + 62 + (i / 2 * LegendLine));
            svg.Append(CultureInfo.InvariantCulture, $"<path class=\"{SvgPanel.Class(i)}\" d=\"M{x - 30} {y - 4}h24\"/><text x=\"{x}\" y=\"{y}\">{SvgPanel.Escape(groups[i])}</text>\n");
        }

        return svg.Append("</svg>\n").ToString();
    }

    private static void Losses(StringBuilder svg, IReadOnlyList<PointProgress> points, IReadOnlyDictionary<string, SweepCurve> curves, List<string> groups)
    {
        // A run that diverges must not flatten the others: what lies above the losses of the beginning is drawn at the upper edge.
        var all = points.Select(point => curves[point.Record.Name]).Where(curve => curve.Steps.Count > 0).ToList();
        var begin = all.SelectMany(curve => curve.Losses.Where(double.IsFinite).Take(1)).DefaultIfEmpty(1).Max();
        var y = PlotAxis.Around(all.SelectMany(curve => curve.Losses).Where(loss => loss <= begin).Append(begin));
        var x = PlotAxis.Around(all.SelectMany(curve => curve.Steps));
        var panel = new SvgPanel(svg, (70, Top, PanelWidth, PanelHeight), x, y, "train/loss", "step");
        foreach (var group in points.GroupBy(point => point.Record.Group))
        {
            var (series, runs) = (groups.IndexOf(group.Key), group.Select(point => curves[point.Record.Name]).ToList());
            foreach (var run in runs)
            {
                panel.Line(Sampled(run.Steps.Zip(run.Losses)), series, faint: runs.Count > 1);
            }

            if (runs.Count > 1)
            {
                panel.Line(Sampled(Mean(runs)), series);
            }
        }
    }

    // About as many points as the panel shows, peaks among them; where losses are missing the line still breaks.
    private static IEnumerable<(double Step, double Loss)> Sampled(IEnumerable<(double Step, double Loss)> rows)
    {
        var stretch = new SeriesSampler();
        foreach (var (step, loss) in rows)
        {
            if (double.IsFinite(loss))
            {
                stretch.Add((long)step, loss);
                continue;
            }

            foreach (var point in stretch.Points())
            {
                yield return (point.Step, point.Value);
            }

            yield return (step, double.NaN);
            stretch = new SeriesSampler();
        }

        foreach (var point in stretch.Points())
        {
            yield return (point.Step, point.Value);
        }
    }

    // At the steps that every run has.
    private static IEnumerable<(double Step, double Loss)> Mean(List<SweepCurve> runs)
    {
        var byStep = runs.ConvertAll(run => run.Steps.Zip(run.Losses).GroupBy(row => row.First).ToDictionary(rows => rows.Key, rows => rows.Last().Second));
        return runs[0].Steps.Where(step => byStep.TrueForAll(run => run.ContainsKey(step))).Select(step => (step, byStep.Average(run => run[step])));
    }

    private static void Metric(StringBuilder svg, SweepRequest request, IReadOnlyList<PointProgress> points, List<string> groups)
    {
        var done = points.Where(point => point.Record is { Status: PointStatus.Done, Value: { } value } && double.IsFinite(value)).ToList();
        var across = request.Axes.FirstOrDefault(axis => axis.Values.All(value => Parse(value) is not null)) ?? (request.Axes is [var first, ..] ? first : null);
        var names = across?.Values ?? [.. points.Select(point => point.Record.Seed?.ToString(CultureInfo.InvariantCulture) ?? "")];
        var numbers = across?.Values.Select(Parse).ToList();
        var isNumeric = numbers is not null && numbers.TrueForAll(number => number is not null);
        var x = isNumeric ? PlotAxis.Around(numbers!.Select(number => number!.Value), mayBeLogarithmic: true) : new PlotAxis(-0.5, names.Count - 0.5);
        var results = SweepResults.Of(done.Select(point => point.Record), request.Maximize);
        var y = PlotAxis.Around([.. done.Select(point => point.Record.Value!.Value), .. results.SelectMany(result => new[] { result.Mean - (result.Deviation ?? 0), result.Mean + (result.Deviation ?? 0) })]);
        var panel = new SvgPanel(svg, (570, Top, PanelWidth, PanelHeight), x, y, request.Metric, across?.Key ?? "seed", isNumeric ? null : names);

        // Through the means of what differs only in the value across.
        foreach (var line in done.GroupBy(point => string.Join(",", point.Record.Choices.Where(choice => choice.Key != across?.Key).Select(choice => choice.Value))))
        {
            var places = line.GroupBy(point => point.Record.Group).Select(group => (X: Place(group.First()), Mean: group.Average(point => point.Record.Value!.Value), Group: group.Key)).OrderBy(place => place.X).ToList();
            if (across is not null)
            {
                panel.Line(places.Select(place => (place.X, place.Mean)), groups.IndexOf(places[0].Group), faint: true);
            }
        }

        foreach (var point in done)
        {
            panel.Dot(Place(point), point.Record.Value!.Value, groups.IndexOf(point.Record.Group), point.Record.Name);
        }

        foreach (var result in across is null ? [] : results)
        {
            var (place, series) = (Place(done.First(point => point.Record.Group == result.Group)), groups.IndexOf(result.Group));
            panel.Dot(place, result.Mean, series, result.Group, large: true);
            if (result.Deviation is { } deviation)
            {
                panel.Bar(place, result.Mean - deviation, result.Mean + deviation, series);
            }
        }

        double Place(PointProgress point)
        {
            var value = across is null ? point.Record.Seed?.ToString(CultureInfo.InvariantCulture) ?? "" : point.Record.Choices[across.Key];
            return isNumeric ? Parse(value)!.Value : names.ToList().IndexOf(value);
        }
    }

    private static double? Parse(string text) => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) ? number : null;
}
