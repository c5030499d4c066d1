using System.Text.Json;

namespace Moe.Launch.Sweeps;

/// <summary>What a run's metrics.jsonl says for a sweep: the loss over the steps, and the last value of one key.</summary>
/// <param name="Steps">Of each row with a training loss, ascending.</param>
/// <param name="Losses">Training loss at those steps; NaN where it was no number.</param>
/// <param name="Last">Last value of the key; null where no row has it.</param>
/// <param name="Keys">All keys that occur.</param>
internal sealed record SweepCurve(IReadOnlyList<double> Steps, IReadOnlyList<double> Losses, double? Last, IReadOnlySet<string> Keys)
{
    /// <summary>Reads a file; one that is missing has no rows.</summary>
    public static SweepCurve Read(string path, string metric)
    {
        var (steps, losses, keys) = (new List<double>(), new List<double>(), new HashSet<string>());
        double? last = null;
        foreach (var line in File.Exists(path) ? File.ReadLines(path) : [])
        {
            if (JsonLine.Parse(line) is not { ValueKind: JsonValueKind.Object } row)
            {
                continue; // half a line, of a run that was killed
            }

            keys.UnionWith(row.EnumerateObject().Select(property => property.Name));
            last = Number(row, metric) ?? last;
            if (Number(row, "train/loss") is { } loss && Number(row, "step") is { } step)
            {
                steps.Add(step);
                losses.Add(loss);
            }
        }

        return new SweepCurve(steps, losses, last, keys);
    }

    // JSON's null is a value that was not finite.
    private static double? Number(JsonElement row, string key) => !row.TryGetProperty(key, out var value) ? null
        : value.ValueKind == JsonValueKind.Number ? value.GetDouble()
        : value.ValueKind == JsonValueKind.Null ? double.NaN : null;
}
