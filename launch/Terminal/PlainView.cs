using System.Globalization;
using Moe.Launch.Supervision;
using Moe.Training.Hosting;
using Moe.Training.Profiling;

namespace Moe.Launch.Terminal;

/// <summary>One line a row, <c>key=value</c>, without colours: for pipes, log files and grep.</summary>
internal sealed class PlainView(TextWriter output) : IRunView
{
    private readonly RankPaces _ranks = new();
    private long _lastStep;

    public void Started(RunHeader header)
    {
        _lastStep = header.Steps;
        output.WriteLine(header.FirstLine);
        output.WriteStamped($"run={header.Id} folder={header.Folder} mode={header.Mode} backend={header.Backend} world_size={header.WorldSize}"
            + (header.Dashboard is null ? "" : $" dashboard={header.Dashboard}"));
    }

    public void Info(InfoMessage info)
    {
        _lastStep = info.LastStep;
        output.WriteStamped($"mesh=\"{info.Mesh}\" parameters={info.ParametersTotal} active={info.ParametersActive} from_step={info.FirstStep}"
            + (info.ResumedFrom is null ? "" : $" resumed_from={info.ResumedFrom}"));
    }

    public void Metrics(MetricsMessage metrics)
    {
        var step = metrics.Row.GetValueOrDefault("step").ToString("F0", CultureInfo.InvariantCulture);
        output.WriteStamped($"step={step}/{_lastStep} {string.Join(' ', MetricText.Pairs(metrics.Row))}{Slowest(metrics)}");
    }

    public void Event(EventMessage e) => output.WriteStamped($"event={e.Kind} step={e.Step} text={Quoted(e.Text)}");

    public void Text(string line) => output.WriteLine(line);

    public void Profile(ProfileTable table)
    {
        foreach (var line in table.Lines)
        {
            output.WriteLine(line);
        }

        output.Flush();
    }

    public void Notice(string text) => output.WriteStamped($"notice={Quoted(text)}");

    public void Ended(RunOutcome outcome) => output.WriteStamped(
        $"status={outcome.Status} exit_code={outcome.ExitCode} elapsed_s={outcome.Elapsed.TotalSeconds.ToString("F1", CultureInfo.InvariantCulture)}");

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    // Named only where it stands out.
    private string Slowest(MetricsMessage metrics)
    {
        if (metrics.Ranks is not { } ranks)
        {
            return "";
        }

        _ranks.Add(ranks);
        return _ranks.Slow() is [var slowest, ..] ? MetricText.Invariant($" slow_rank={slowest.Rank} slow_by={slowest.Excess:F2}") : "";
    }

    private static string Quoted(string text) => $"\"{text.Replace("\\", "\\\\").Replace("\"", "\\\"").ReplaceLineEndings(" ")}\"";
}
