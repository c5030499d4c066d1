using System.Text.Json;
using Moe.Training.Hosting;

namespace Moe.Training.Reports;

/// <summary>Reads a run folder, of a run that ended or goes on, line by line: a file may be larger than memory. What is missing or damaged is left out.</summary>
/// <param name="folder">The run's folder.</param>
/// <param name="open">Opens its files.</param>
public sealed class RunSnapshotReader(RunFolder folder, OpenRunFile open)
{
    private const int FirstEvents = 50, LastEvents = 350;
    private const int MostSampleCharacters = 20_000;
    private const int MostDomainCells = 120_000;

    private readonly Dictionary<string, SeriesSampler> _series = [];
    private readonly TableSampler _load = new();
    private readonly Dictionary<string, TableSampler> _ranks = [];
    private readonly List<DomainLoads> _domains = [];
    private readonly List<JsonElement> _events = [];
    private int _layers;
    private int _experts;
    private int _domainStride = 1;
    private long _evaluations;
    private DomainLoads? _lastDomains;

    /// <summary>Names of the files that grow, as in <see cref="RunCursor.Files"/>.</summary>
    public static IReadOnlyList<string> GrowingFiles(RunFolder folder) =>
        [folder.MetricsFile, folder.ExpertsFile, folder.DomainsFile, folder.RanksFile, folder.EventsFile];

    /// <summary>The state of the run's record, run.json; an empty object where there is none.</summary>
    public static JsonElement Record(RunFolder folder, OpenRunFile open) =>
        Whole(open, folder.RunFile) is { ValueKind: JsonValueKind.Object } record ? record : JsonDocument.Parse("{}").RootElement;

    /// <summary>Number of the attempt in a record; 0 where it has none.</summary>
    public static int AttemptOf(JsonElement record) =>
        record.TryGetProperty("attempt", out var attempt) && attempt.ValueKind == JsonValueKind.Number && attempt.TryGetInt32(out var number) ? number : 0;

    /// <summary>Reads all of it.</summary>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public RunSnapshot Read()
    {
        // Before the rows: what is read of them later may be newer than the record, never older.
        var record = Record(folder, open);
        Action<JsonElement>[] takers = [TakeMetrics, TakeLoad, TakeDomains, TakeRanks, TakeEvent];
        long[] offsets = [.. GrowingFiles(folder).Zip(takers, ReadLines)];
        if (_lastDomains is not null && (_domains.Count == 0 || _domains[^1] != _lastDomains))
        {
            _domains.Add(_lastDomains);
        }

        return new RunSnapshot(Text(record, "id") ?? Path.GetFileName(Path.TrimEndingDirectorySeparator(folder.Path)), record)
        {
            Series = _series,
            Load = _load.Columns,
            Layers = _layers,
            Experts = _experts,
            Domains = _domains,
            Ranks = _ranks.ToDictionary(entry => entry.Key, entry => entry.Value.Columns),
            Events = _events,
            Config = Whole(open, folder.ConfigOriginFile),
            Sample = Sample(),
            Failures = [.. Failures(record)],
            Cursor = new RunCursor(AttemptOf(record), offsets),
        };
    }

    /// <summary>Tokens of each expert in percent of their layer's mean; 100 for all where a layer has none.</summary>
    /// <param name="table">[L][E] numbers.</param>
    /// <exception cref="FormatException">The table has other shapes.</exception>
    internal static double[] Percent(JsonElement table)
    {
        var percent = new List<double>();
        foreach (var layer in table.EnumerateArray())
        {
            var tokens = layer.EnumerateArray().Select(count => count.GetDouble()).ToArray();
            var sum = tokens.Sum();
            percent.AddRange(tokens.Select(count => sum == 0 ? 100 : 100 * count * tokens.Length / sum));
        }

        return percent.Count % Math.Max(1, table.GetArrayLength()) == 0 ? [.. percent] : throw new FormatException("layers of different lengths");
    }

    private long ReadLines(string path, Action<JsonElement> take)
    {
        using var stream = open(path);
        if (stream is null)
        {
            return 0;
        }

        var lines = new JsonLines(stream);
        while (lines.Next() is { } line)
        {
            try
            {
                using var row = JsonDocument.Parse(line);
                take(row.RootElement);
            }
            catch (Exception e) when (IsDamage(e))
            {
                // A line of a killed writer, or of another program: the others are still worth showing.
            }
        }

        return lines.Consumed;
    }

    private void TakeMetrics(JsonElement row)
    {
        var step = row.GetProperty("step").GetInt64();
        foreach (var member in row.EnumerateObject())
        {
            if (member.Value.ValueKind == JsonValueKind.Number && member.Name is not "step")
            {
                if (!_series.TryGetValue(member.Name, out var series))
                {
                    _series[member.Name] = series = new SeriesSampler();
                }

                series.Add(step, member.Value.GetDouble());
            }
        }
    }

    private void TakeLoad(JsonElement row)
    {
        var tokens = row.GetProperty("tokens");
        var percent = Percent(tokens);
        if (percent.Length > 0)
        {
            (_layers, _experts) = (tokens.GetArrayLength(), percent.Length / tokens.GetArrayLength());
            _load.Add(row.GetProperty("step").GetInt64(), percent);
        }
    }

    private void TakeDomains(JsonElement row)
    {
        var domains = row.GetProperty("domains").EnumerateArray().ToList();
        _lastDomains = new DomainLoads(
            row.GetProperty("step").GetInt64(),
            [.. domains.Select(domain => domain.GetProperty("name").GetString() ?? "")],
            [.. domains.Select(domain => domain.GetProperty("loss") is { ValueKind: JsonValueKind.Number } loss ? loss.GetDouble() : double.NaN)],
            [.. domains.Select(domain => Percent(domain.GetProperty("tokens")))]);
        if (_evaluations++ % _domainStride != 0)
        {
            return;
        }

        _domains.Add(_lastDomains);
        if (_domains.Count > 2 && _domains.Count * _lastDomains.Loads.Sum(load => load.Length) > MostDomainCells)
        {
            var kept = _domains.Where((_, i) => i % 2 == 0).ToList();
            _domains.Clear();
            _domains.AddRange(kept);
            _domainStride *= 2;
        }
    }

    private void TakeRanks(JsonElement row)
    {
        var step = row.GetProperty("step").GetInt64();
        foreach (var member in row.EnumerateObject().Where(member => member.Value.ValueKind == JsonValueKind.Array))
        {
            if (!_ranks.TryGetValue(member.Name, out var ranks))
            {
                _ranks[member.Name] = ranks = new TableSampler(cells: 40_000);
            }

            ranks.Add(step, [.. member.Value.EnumerateArray().Select(value => value.GetDouble())]);
        }
    }

    private void TakeEvent(JsonElement row)
    {
        if (_events.Count == FirstEvents + LastEvents)
        {
            _events.RemoveAt(FirstEvents);
        }

        _events.Add(row.Clone());
    }

    private string? Sample()
    {
        using var stream = open(folder.SampleFile);
        if (stream is null)
        {
            return null;
        }

        using var reader = new StreamReader(stream);
        var text = new char[MostSampleCharacters];
        return new string(text, 0, reader.ReadBlock(text));
    }

    private IEnumerable<RankFailure> Failures(JsonElement record)
    {
        const int Most = 8;
        var world = record.TryGetProperty("world_size", out var size) && size.TryGetInt32(out var ranks) ? ranks : 0;
        return Enumerable.Range(0, world).Select(rank => Failure(folder.ErrorFile(rank))).OfType<RankFailure>().OrderBy(failure => failure.Secondary).Take(Most);
    }

    private RankFailure? Failure(string path)
    {
        using var stream = open(path);
        try
        {
            return stream is null ? null : RankFailure.Read(stream);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static string? Text(JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    private static JsonElement? Whole(OpenRunFile open, string path)
    {
        using var stream = open(path);
        try
        {
            return stream is null ? null : JsonDocument.Parse(stream).RootElement;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private static bool IsDamage(Exception e) => e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException;
}
