using System.Text.Json;
using Moe.Training.Hosting;

namespace Moe.Training;

/// <summary>
/// The files of a run folder that rank 0 writes step by step: the numbers of metrics.jsonl, and beside it what has more than one dimension.
/// All of them end at the same step when a run resumes.
/// </summary>
public sealed class RunRows : IDisposable
{
    private readonly MetricsFile _metrics;
    private readonly StepFile _experts;
    private readonly StepFile _domains;
    private readonly StepFile _ranks;

    /// <param name="folder">The run's folder.</param>
    /// <param name="lastStep">Rows of later steps are removed.</param>
    public RunRows(RunFolder folder, long lastStep)
    {
        _metrics = new MetricsFile(folder.MetricsFile, lastStep);
        _experts = new StepFile(folder.ExpertsFile, lastStep);
        _domains = new StepFile(folder.DomainsFile, lastStep);
        _ranks = new StepFile(folder.RanksFile, lastStep);
    }

    /// <summary>Appends a row to metrics.jsonl.</summary>
    public void Append(IReadOnlyDictionary<string, double> row) => _metrics.Append(row);

    /// <summary>Appends the loads of a step to experts.jsonl: <c>{"step":9,"tokens":[[..E..],..L..]}</c>, tokens that chose each expert, over all ranks.</summary>
    public void AppendLoad(long step, ExpertLoad load)
    {
        if (load.Layers > 0)
        {
            _experts.Append(json =>
            {
                json.WriteNumber("step", step);
                json.WritePropertyName("tokens");
                WriteTable(json, load.Counts, load.Experts);
            });
        }
    }

    /// <summary>
    /// Appends an evaluation to domains.jsonl: <c>{"step":9,"domains":[{"name":"kjv","loss":1.5,"evaluated":4096,"tokens":[[..E..],..L..]},...]}</c>, of each domain
    /// the tokens read and those of them that chose each expert.
    /// </summary>
    public void AppendDomains(long step, Evaluation evaluation, int experts) => _domains.Append(json =>
    {
        json.WriteNumber("step", step);
        json.WriteStartArray("domains");
        foreach (var domain in evaluation.Domains)
        {
            json.WriteStartObject();
            json.WriteString("name", domain.Name);
            WriteFinite(json, "loss", domain.Loss);
            json.WriteNumber("evaluated", domain.Tokens);
            json.WritePropertyName("tokens");
            WriteTable(json, domain.Counts, experts);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    });

    /// <summary>Appends what the ranks measured of themselves to ranks.jsonl: <c>{"step":9,"perf/step_ms":[..one a rank..],...}</c>.</summary>
    public void AppendRanks(long step, IReadOnlyDictionary<string, double[]> ranks) => _ranks.Append(json =>
    {
        json.WriteNumber("step", step);
        foreach (var (key, values) in ranks)
        {
            json.WriteStartArray(key);
            foreach (var value in values)
            {
                json.WriteNumberValue(Math.Round(value, 4)); // to 0.1 us and 0.1 MiB: they are measured no finer
            }

            json.WriteEndArray();
        }
    });

    /// <inheritdoc/>
    public void Dispose()
    {
        _metrics.Dispose();
        _experts.Dispose();
        _domains.Dispose();
        _ranks.Dispose();
    }

    private static void WriteTable(Utf8JsonWriter json, IReadOnlyList<long> counts, int experts)
    {
        json.WriteStartArray();
        for (var i = 0; i < counts.Count; i++)
        {
            if (i % experts == 0)
            {
                json.WriteStartArray();
            }

            json.WriteNumberValue(counts[i]);
            if (i % experts == experts - 1)
            {
                json.WriteEndArray();
            }
        }

        json.WriteEndArray();
    }

    private static void WriteFinite(Utf8JsonWriter json, string key, double value)
    {
        if (double.IsFinite(value))
        {
            json.WriteNumber(key, value);
        }
        else
        {
            json.WriteNull(key);
        }
    }
}
