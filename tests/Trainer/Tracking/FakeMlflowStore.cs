using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Moe.Tests.Tracking;

/// <summary>An error that an MLflow server answers with.</summary>
internal sealed class FakeMlflowException(int status, string code, string message) : Exception(message)
{
    public int Status { get; } = status;

    public string Code { get; } = code;
}

/// <summary>A stored point. An equal one is not stored twice, as the server's primary key has it.</summary>
internal readonly record struct FakePoint(string Key, double Value, long Timestamp, long Step);

/// <summary>A stored run.</summary>
internal sealed class FakeRun
{
    private readonly ConcurrentDictionary<FakePoint, bool> _points = [];

    public required string Id { get; init; }

    public required string ExperimentId { get; init; }

    public required string ArtifactUri { get; init; }

    public string Name { get; set; } = "";

    public string Status { get; set; } = "RUNNING";

    public List<string> StatusHistory { get; } = ["RUNNING"];

    public long? EndTime { get; set; }

    public string LifecycleStage { get; set; } = "active";

    /// <summary>As they now stand, while requests may add others.</summary>
    public IReadOnlyCollection<FakePoint> Points => [.. _points.Keys];

    public Dictionary<string, string> Parameters { get; } = [];

    public Dictionary<string, string> Tags { get; } = [];

    public void Add(FakePoint point) => _points.TryAdd(point, true);

    public JsonObject ToJson() => new()
    {
        ["info"] = new JsonObject
        {
            ["run_id"] = Id,
            ["run_uuid"] = Id,
            ["run_name"] = Name,
            ["experiment_id"] = ExperimentId,
            ["status"] = Status,
            ["artifact_uri"] = ArtifactUri,
            ["lifecycle_stage"] = LifecycleStage,
            ["start_time"] = 1790000000000,
        },
        ["data"] = new JsonObject(),
    };
}

/// <summary>What a server remembers, and what it refuses to.</summary>
internal sealed partial class FakeMlflowStore
{
    public Dictionary<string, (string Id, string Stage)> Experiments { get; } = new() { ["Default"] = ("0", "active") };

    public List<FakeRun> Runs { get; } = [];

    public Dictionary<string, byte[]> Artifacts { get; } = [];

    /// <summary>The longest parameter that is taken; a server before 2.8 took 500 characters.</summary>
    public int ParameterLength { get; set; } = 6000;

    /// <summary>A metric's key that is refused, as a stricter server might.</summary>
    public string? RefusedKey { get; set; }

    /// <summary>The largest batch that arrived.</summary>
    public int LargestBatch { get; private set; }

    public JsonObject ExperimentByName(string name) => Experiments.TryGetValue(name, out var experiment)
        ? new JsonObject { ["experiment_id"] = experiment.Id, ["name"] = name, ["lifecycle_stage"] = experiment.Stage }
        : throw new FakeMlflowException(404, "RESOURCE_DOES_NOT_EXIST", $"Could not find experiment with name '{name}'");

    public string CreateExperiment(JsonNode body)
    {
        var name = (string)body["name"]!;
        Require(name.Length is > 0 and <= 500, "Invalid experiment name");
        var id = Experiments.Count.ToString(CultureInfo.InvariantCulture);
        return Experiments.TryAdd(name, (id, "active")) ? id : throw new FakeMlflowException(400, "RESOURCE_ALREADY_EXISTS", $"Experiment '{name}' already exists.");
    }

    public FakeRun CreateRun(JsonNode body, string? artifactRoot)
    {
        var experiment = (string)body["experiment_id"]!;
        if (Experiments.Values.All(known => known.Id != experiment))
        {
            throw new FakeMlflowException(404, "RESOURCE_DOES_NOT_EXIST", $"No Experiment with id={experiment} exists");
        }

        var id = Guid.NewGuid().ToString("N");
        var run = new FakeRun
        {
            Id = id,
            ExperimentId = experiment,
            Name = (string?)body["run_name"] ?? "",
            ArtifactUri = artifactRoot is null ? $"mlflow-artifacts:/{experiment}/{id}/artifacts" : $"{artifactRoot}/{experiment}/{id}/artifacts",
        };
        SetTags(run, body["tags"]);
        Runs.Add(run);
        return run;
    }

    public FakeRun Run(string id) => Runs.FirstOrDefault(run => run.Id == id)
        ?? throw new FakeMlflowException(404, "RESOURCE_DOES_NOT_EXIST", $"Run with id={id} not found");

    public JsonArray Search(JsonNode body)
    {
        var filter = SearchFilter().Match((string)body["filter"]!);
        Require(filter.Success, "Invalid filter");
        var experiments = body["experiment_ids"]!.AsArray().Select(id => (string)id!).ToList();
        return [.. Runs.Where(run => experiments.Contains(run.ExperimentId) && run.Tags.GetValueOrDefault(filter.Groups[1].Value) == filter.Groups[2].Value).Select(run => run.ToJson())];
    }

    public JsonObject Update(JsonNode body)
    {
        var run = Active((string)body["run_id"]!);
        run.Status = (string)body["status"]!;
        Require(run.Status is "RUNNING" or "SCHEDULED" or "FINISHED" or "FAILED" or "KILLED", "Invalid status");
        run.StatusHistory.Add(run.Status);
        run.EndTime = (long?)body["end_time"];
        return new JsonObject { ["run_info"] = run.ToJson()["info"]!.DeepClone() };
    }

    public void Log(JsonNode body)
    {
        var run = Active((string)body["run_id"]!);
        var (metrics, parameters, tags) = (Items(body, "metrics"), Items(body, "params"), Items(body, "tags"));
        LargestBatch = Math.Max(LargestBatch, metrics.Count + parameters.Count + tags.Count);
        Require(metrics.Count <= 1000, $"A batch logging request can contain at most 1000 metrics. Got {metrics.Count} metrics.");
        Require(parameters.Count <= 100, $"A batch logging request can contain at most 100 params. Got {parameters.Count} params.");
        Require(tags.Count <= 100, $"A batch logging request can contain at most 100 tags. Got {tags.Count} tags.");
        Require(metrics.Count + parameters.Count + tags.Count <= 1000, "A batch logging request can contain at most 1000 metrics, params, and tags.");
        foreach (var metric in metrics)
        {
            RequireKey((string)metric["key"]!);
            Require((string)metric["key"]! != RefusedKey, $"Invalid metric name: '{RefusedKey}'");
            run.Add(new FakePoint((string)metric["key"]!, Number(metric["value"]!), Whole(metric["timestamp"]!), Whole(metric["step"]!)));
        }

        foreach (var parameter in parameters)
        {
            var (key, value) = ((string)parameter["key"]!, (string)parameter["value"]!);
            RequireKey(key);
            Require(value.Length <= ParameterLength, $"Param value had length {value.Length}, which exceeded length limit of {ParameterLength}");
            Require(run.Parameters.GetValueOrDefault(key, value) == value, $"Changing param values is not allowed. Param with key='{key}' was already logged");
            run.Parameters[key] = value;
        }

        SetTags(run, body["tags"]);
    }

    private static List<JsonNode> Items(JsonNode body, string name) => [.. body[name]?.AsArray().Select(item => item!) ?? []];

    // int64 comes as a number or as a text; a double also by its name.
    private static long Whole(JsonNode node) => node.GetValueKind() == System.Text.Json.JsonValueKind.String ? long.Parse((string)node!, CultureInfo.InvariantCulture) : (long)node;

    private static double Number(JsonNode node) => node.GetValueKind() == System.Text.Json.JsonValueKind.String
        ? (string)node! switch
        {
            "NaN" => double.NaN,
            "Infinity" => double.MaxValue, // as the SQL store keeps it
            "-Infinity" => double.MinValue,
            _ => throw new FakeMlflowException(400, "INVALID_PARAMETER_VALUE", "Invalid value"),
        }
        : (double)node;

    private static void SetTags(FakeRun run, JsonNode? tags)
    {
        foreach (var tag in tags?.AsArray() ?? [])
        {
            RequireKey((string)tag!["key"]!);
            Require(((string)tag["value"]!).Length <= 5000, "Tag value exceeded length limit of 5000");
            run.Tags[(string)tag["key"]!] = (string)tag["value"]!;
        }
    }

    private static void RequireKey(string key) => Require(
        key.Length is > 0 and <= 250 && Key().IsMatch(key) && !key.StartsWith('/') && !key.EndsWith('/') && !key.Contains("//", StringComparison.Ordinal)
        && !key.Split('/').Any(segment => segment is "." or ".."), $"Invalid name: '{key}'. Names may only contain alphanumerics, underscores, dashes, periods, spaces, and slashes.");

    private static void Require(bool condition, string message)
    {
        if (!condition)
        {
            throw new FakeMlflowException(400, "INVALID_PARAMETER_VALUE", message);
        }
    }

    private FakeRun Active(string id)
    {
        var run = Run(id);
        Require(run.LifecycleStage == "active", $"The run {id} must be in the 'active' state. Current state is deleted.");
        return run;
    }

    [GeneratedRegex(@"^[A-Za-z0-9_\-. /]+$")]
    private static partial Regex Key();

    [GeneratedRegex(@"^tags\.(\w+) = '(\w+)'$")]
    private static partial Regex SearchFilter();
}
