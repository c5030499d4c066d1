using System.Text.Json;
using Moe.Training.Hosting;

namespace Moe.Training.Reports;

/// <summary>All that a page shows of a run, reduced to what a page can hold.</summary>
/// <param name="Id">Name of the run.</param>
/// <param name="Record">run.json as it is; an empty object where there is none.</param>
public sealed record RunSnapshot(string Id, JsonElement Record)
{
    /// <summary>Curves by key of metrics.jsonl.</summary>
    public IReadOnlyDictionary<string, SeriesSampler> Series { get; init; } = new Dictionary<string, SeriesSampler>();

    /// <summary>Load of each expert in percent of its layer's mean, [L * E] a column.</summary>
    public IReadOnlyList<TableSampler.Column> Load { get; init; } = [];

    /// <summary>L, layers with experts.</summary>
    public int Layers { get; init; }

    /// <summary>E, experts of a layer.</summary>
    public int Experts { get; init; }

    /// <summary>Evaluations by domain, some of them where there were many; the last is always there.</summary>
    public IReadOnlyList<DomainLoads> Domains { get; init; } = [];

    /// <summary>What the ranks measured of themselves, by key, a number a rank and column.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<TableSampler.Column>> Ranks { get; init; } = new Dictionary<string, IReadOnlyList<TableSampler.Column>>();

    /// <summary>Lines of events.jsonl; of many, the first and the last.</summary>
    public IReadOnlyList<JsonElement> Events { get; init; } = [];

    /// <summary>config.origin.json: value and origin by key; null where there is none.</summary>
    public JsonElement? Config { get; init; }

    /// <summary>What the trained model wrote; null where it wrote nothing.</summary>
    public string? Sample { get; init; }

    /// <summary>Accounts of the ranks that failed.</summary>
    public IReadOnlyList<RankFailure> Failures { get; init; } = [];

    /// <summary>Where reading ended.</summary>
    public required RunCursor Cursor { get; init; }
}

/// <summary>Of one evaluation, what each domain used the experts for.</summary>
/// <param name="Step">Steps done.</param>
/// <param name="Names">The domains.</param>
/// <param name="Losses">Nats per token of each; NaN where it is no number.</param>
/// <param name="Loads">Of each domain the load of each expert in percent of its layer's mean, [L * E].</param>
public sealed record DomainLoads(long Step, IReadOnlyList<string> Names, IReadOnlyList<double> Losses, IReadOnlyList<double[]> Loads);
