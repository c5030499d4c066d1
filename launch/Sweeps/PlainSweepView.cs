using System.Globalization;
using Moe.Launch.Terminal;

namespace Moe.Launch.Sweeps;

/// <summary>One line when a point starts, when it ends, and at most every few seconds between: for pipes, log files and grep.</summary>
internal sealed class PlainSweepView(TextWriter output, string metric) : ISweepView
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(10);

    private readonly Dictionary<PointProgress, DateTime> _saidAt = [];

    public void Started(IReadOnlyList<PointProgress> points)
    {
        foreach (var point in points)
        {
            output.WriteStamped($"point={point.Record.Name} status={point.Record.Status}{Numbers(point)}");
        }
    }

    public void Changed(PointProgress point)
    {
        var error = point.Record.Error is { } text ? $" error=\"{text.Replace('"', '\'')}\"" : "";
        output.WriteStamped($"point={point.Record.Name} status={point.Record.Status}{(point.Record.ExitCode is { } code ? $" exit_code={code}" : "")}{Numbers(point)}{error}");
        _saidAt[point] = DateTime.UtcNow;
    }

    public void Progressed(PointProgress point)
    {
        if (DateTime.UtcNow - _saidAt.GetValueOrDefault(point) >= Interval)
        {
            _saidAt[point] = DateTime.UtcNow;
            output.WriteStamped($"point={point.Record.Name}{Numbers(point)}");
        }
    }

    public void Notice(string text) => output.WriteStamped($"notice=\"{text.Replace('"', '\'')}\"");

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private string Numbers(PointProgress point)
    {
        var record = point.Record;
        return record.Step == 0 ? "" : string.Create(
            CultureInfo.InvariantCulture,
            $" step={record.Step}/{point.Steps}{Number(" loss", record.Loss)}{(metric == "train/loss" ? "" : Number(" " + metric, record.Value))}{(point.Speed is { } speed ? $" tok_s={speed:F0}" : "")}");
    }

    private static string Number(string name, double? value) => value is { } number ? MetricText.Invariant($"{name}={number:F5}") : "";
}
