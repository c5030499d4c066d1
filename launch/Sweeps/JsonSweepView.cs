using System.Text.Json;
using Moe.Launch.Terminal;

namespace Moe.Launch.Sweeps;

/// <summary>One JSON object a line on standard output, each with <c>type</c> and <c>time</c>; what is for people goes to standard error.</summary>
internal sealed class JsonSweepView(TextWriter output, TextWriter error, string metric) : ISweepView
{
    public void Started(IReadOnlyList<PointProgress> points)
    {
        foreach (var point in points)
        {
            Write("point", point);
        }
    }

    public void Changed(PointProgress point) => Write("point", point);

    public void Progressed(PointProgress point) => Write("progress", point);

    public void Notice(string text) => error.WriteLine(text);

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private void Write(string type, PointProgress point) => JsonView.WriteObject(output, json =>
    {
        var record = point.Record;
        json.WriteString("type", type);
        json.WriteString("time", DateTime.UtcNow);
        json.WriteString("point", record.Name);
        json.WriteString("status", record.Status);
        json.WriteNumber("step", record.Step);
        json.WriteNumber("steps", point.Steps);
        Write(json, "train/loss", record.Loss);
        if (metric != "train/loss")
        {
            Write(json, metric, record.Value);
        }

        Write(json, "perf/tokens_per_s", point.Speed);
        if (record.ExitCode is { } code)
        {
            json.WriteNumber("exit_code", code);
        }

        if (record.Error is { } text)
        {
            json.WriteString("error", text);
        }
    });

    private static void Write(Utf8JsonWriter json, string name, double? value)
    {
        if (value is { } number && double.IsFinite(number))
        {
            json.WriteNumber(name, number);
        }
        else if (value is not null)
        {
            json.WriteNull(name);
        }
    }
}
