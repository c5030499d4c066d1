using System.Text.Json;
using Moe.Optimizers;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Training;

/// <summary>From the metrics of a finished run to a refined schedule.</summary>
public static class ScheduleRefinement
{
    /// <summary>Places of a curve; the authors' scripts take as many, and the file stays small however long the run was.</summary>
    private const int MostPlaces = 10_000;

    /// <summary>Refines the schedule of a finished run.</summary>
    /// <remarks>
    /// The run keeps the Euclidean norm of the whole gradient before clipping. It is weighed as algorithm 1 of the paper has it where the run
    /// was stepped by SGD or LARS; for the others it stands in for the l1 norm of algorithm 2, to which it is proportional while the
    /// gradient's distribution over the weights keeps its shape, and is weighed as that.
    /// </remarks>
    /// <param name="folder">The run's folder.</param>
    /// <param name="smooth">Width of the median filter as a share of the run, in [0, 1].</param>
    /// <exception cref="TrainingException">The run is not finished, or its metrics are not whole.</exception>
    /// <exception cref="ConfigException">Its configuration cannot be read.</exception>
    public static ScheduleFile Of(RunFolder folder, double smooth)
    {
        if (!File.Exists(folder.ConfigFile) || !File.Exists(folder.MetricsFile))
        {
            throw new TrainingException($"'{folder.Path}' is no run folder: it lacks {(File.Exists(folder.ConfigFile) ? "metrics.jsonl" : "config.yaml")}");
        }

        var config = ConfigReader.Read(folder.ConfigFile, []).Config;
        var norms = Norms(folder.MetricsFile);
        var steps = config.Train.Steps;
        if (norms.Count < 2)
        {
            throw new TrainingException($"the run '{folder.Path}' has {norms.Count} gradient norm(s) of its {steps} step(s); a schedule takes at least 2");
        }

        if (norms[^1].Step != steps)
        {
            throw new TrainingException($"the run '{folder.Path}' is not finished: its gradient norms end at step {norms[^1].Step} of {steps} (a skipped step has none)");
        }

        var exponent = config.Optimizer.Name is OptimizerName.Sgd or OptimizerName.Lars ? 2 : 1;
        var curve = RefinedCurve.Of(Evenly(norms, steps), exponent, smooth);
        return new ScheduleFile(Path.GetFileName(Path.TrimEndingDirectorySeparator(folder.Path)), steps, exponent, smooth, curve.Shares);
    }

    /// <summary>Norms on the straight line between the logged steps, at evenly spaced places from step 1 to the last.</summary>
    internal static double[] Evenly(IReadOnlyList<(long Step, double Norm)> norms, long steps)
    {
        var values = new double[Math.Min(steps, MostPlaces)];
        var next = 1;
        for (var i = 0; i < values.Length; i++)
        {
            var step = 1 + ((double)i * (steps - 1) / (values.Length - 1));
            while (next < norms.Count - 1 && norms[next].Step < step)
            {
                next++;
            }

            var (before, after) = (norms[next - 1], norms[next]);
            var beyond = Math.Clamp((step - before.Step) / (after.Step - before.Step), 0, 1); // what precedes the first norm has the first
            values[i] = (before.Norm * (1 - beyond)) + (after.Norm * beyond);
        }

        return values;
    }

    // Rows of evaluations have no norm, and a step without an update has none that is finite.
    private static List<(long Step, double Norm)> Norms(string path)
    {
        var norms = new List<(long Step, double Norm)>();
        foreach (var (number, line) in File.ReadLines(path).Index())
        {
            try
            {
                using var row = JsonDocument.Parse(line);
                var step = row.RootElement.GetProperty("step").GetInt64();
                if (row.RootElement.TryGetProperty("train/grad_norm", out var norm) && norm.ValueKind != JsonValueKind.Null)
                {
                    norms.Add((step, Checked(norm.GetDouble(), step, norms.Count == 0 ? 0 : norms[^1].Step)));
                }
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
            {
                throw new TrainingException($"{path}:{number + 1}: is no row of metrics: {e.Message}");
            }
        }

        return norms;
    }

    private static double Checked(double norm, long step, long before) =>
        norm > 0 && double.IsFinite(norm) && step > before
            ? norm
            : throw new FormatException(FormattableString.Invariant($"a gradient norm of {norm} at step {step}, after step {before}"));
}
