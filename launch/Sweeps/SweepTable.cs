using System.Globalization;
using System.Text;
using Moe.Launch.Terminal;

namespace Moe.Launch.Sweeps;

/// <summary>A sweep's results as a table: groups of points from the best to the worst, with their spread over seeds.</summary>
internal static class SweepTable
{
    /// <summary>Lines for a terminal or a pipe; none where no point has finished.</summary>
    public static IEnumerable<string> Text(IReadOnlyList<GroupResult> results, SweepRequest request, int width, Glyphs glyphs)
    {
        if (results.Count == 0)
        {
            return [];
        }

        var rows = results.Select((result, i) => new[]
        {
            result.Group, $"{i + 1}", $"{result.Runs}", Number(result.Mean), result.Deviation is { } deviation ? $"{glyphs.PlusMinus} {Number(deviation)}" : "", Number(result.Least), Number(result.Most),
        });
        string[] head = ["point", "place", "runs", request.Metric, "spread", "least", "most"];
        return TextTable.Lines([head, .. rows], width, alignRight: [1, 2, 3, 4, 5, 6]);
    }

    /// <summary>The results and every run, as Markdown.</summary>
    public static string Markdown(IReadOnlyList<GroupResult> results, IReadOnlyList<PointProgress> points, SweepRequest request)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"Last {request.Metric} of each run, the {(request.Maximize ? "largest" : "smallest")} first; the spread is the standard deviation over seeds (n - 1).\n\n");
        text.Append(CultureInfo.InvariantCulture, $"| place | point | runs | {request.Metric} | spread | least | most |\n| ---: | --- | ---: | ---: | ---: | ---: | ---: |\n");
        for (var i = 0; i < results.Count; i++)
        {
            var result = results[i];
            var spread = result.Deviation is { } deviation ? Number(deviation) : "";
            text.Append(CultureInfo.InvariantCulture, $"| {i + 1} | {result.Group} | {result.Runs} | {Number(result.Mean)} | {spread} | {Number(result.Least)} | {Number(result.Most)} |\n");
        }

        text.Append(CultureInfo.InvariantCulture, $"\n| run | status | step | train/loss | {request.Metric} | seconds | error |\n| --- | --- | ---: | ---: | ---: | ---: | --- |\n");
        foreach (var (record, steps) in points.Select(point => (point.Record, point.Steps)))
        {
            var (loss, value) = (record.Loss is { } l ? Number(l) : "", record.Value is { } v ? Number(v) : "");
            text.Append(CultureInfo.InvariantCulture, $"| {record.Name} | {record.Status} | {record.Step}/{steps} | {loss} | {value} | {record.Seconds:F1} | {record.Error?.Replace('|', '/')} |\n");
        }

        return text.ToString();
    }

    private static string Number(double value) => value.ToString(Math.Abs(value) >= 1000 ? "F1" : "F4", CultureInfo.InvariantCulture);
}
