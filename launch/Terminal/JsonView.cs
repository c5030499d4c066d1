using System.Buffers;
using System.Text;
using System.Text.Json;
using Moe.Launch.Supervision;
using Moe.Training.Hosting;
using Moe.Training.Profiling;

namespace Moe.Launch.Terminal;

/// <summary>One JSON object a line on standard output, each with <c>type</c> and <c>time</c>; what is for people goes to standard error.</summary>
internal sealed class JsonView(TextWriter output, TextWriter error) : IRunView
{
    public void Started(RunHeader header)
    {
        error.WriteLine(header.FirstLine);
        Write("start", json =>
        {
            json.WriteString("id", header.Id);
            json.WriteString("folder", header.Folder);
            json.WriteString("mode", header.Mode);
            json.WriteString("backend", header.Backend);
            json.WriteNumber("nodes", header.Nodes);
            json.WriteNumber("procs_per_node", header.ProcessesPerNode);
            json.WriteNumber("world_size", header.WorldSize);
            json.WriteNumber("steps", header.Steps);
        });
    }

    public void Info(InfoMessage info) => Write("info", json =>
    {
        json.WriteString("mesh", info.Mesh);
        json.WriteNumber("parameters_total", info.ParametersTotal);
        json.WriteNumber("parameters_active", info.ParametersActive);
        json.WriteNumber("first_step", info.FirstStep);
        json.WriteNumber("last_step", info.LastStep);
        json.WriteString("resumed_from", info.ResumedFrom);
    });

    public void Metrics(MetricsMessage metrics) => Write("metrics", json => WriteRow(json, metrics.Row));

    public void Event(EventMessage e) => Write("event", json =>
    {
        json.WriteString("kind", e.Kind);
        json.WriteNumber("step", e.Step);
        json.WriteString("text", e.Text);
    });

    public void Text(string line) => Write("text", json => json.WriteString("line", line));

    public void Profile(ProfileTable table) => Write("profile", json => WriteProfile(json, table));

    public void Notice(string text) => error.WriteLine(text);

    public void Ended(RunOutcome outcome) => Write("end", json =>
    {
        json.WriteString("status", outcome.Status);
        json.WriteNumber("exit_code", outcome.ExitCode);
        WriteNumber(json, "elapsed_s", Math.Round(outcome.Elapsed.TotalSeconds, 3));
        if (outcome.RootCause is { } cause)
        {
            json.WriteStartObject("root_cause");
            json.WriteNumber("rank", cause.Failure.Rank);
            json.WriteNumber("step", cause.Failure.Step);
            json.WriteString("what", cause.Failure.What);
            json.WriteString("where", cause.Failure.Where);
            json.WriteString("why", cause.Failure.Why);
            json.WriteString("try", cause.Failure.Try);
            json.WriteEndObject();
        }
    });

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    /// <summary>Writes numbers as properties of the object that is open.</summary>
    internal static void WriteRow(Utf8JsonWriter json, IReadOnlyDictionary<string, double> row)
    {
        foreach (var (key, value) in row)
        {
            WriteNumber(json, key, value);
        }
    }

    /// <summary>Writes the table as the property <c>profile</c> of the object that is open.</summary>
    internal static void WriteProfile(Utf8JsonWriter json, ProfileTable table)
    {
        json.WritePropertyName("profile");
        table.WriteTo(json);
    }

    /// <summary>One JSON object on a line.</summary>
    internal static void WriteObject(TextWriter output, Action<Utf8JsonWriter> properties)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            properties(json);
            json.WriteEndObject();
        }

        output.WriteLine(Encoding.UTF8.GetString(buffer.WrittenSpan));
        output.Flush();
    }

    // JSON has no word for what is not finite.
    private static void WriteNumber(Utf8JsonWriter json, string name, double value)
    {
        if (double.IsFinite(value))
        {
            json.WriteNumber(name, value);
        }
        else
        {
            json.WriteNull(name);
        }
    }

    private void Write(string type, Action<Utf8JsonWriter> properties) => WriteObject(output, json =>
    {
        json.WriteString("type", type);
        json.WriteString("time", DateTime.UtcNow);
        properties(json);
    });
}
