using System.Globalization;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>What a run is: its parameters and its tags.</summary>
/// <param name="Parameters">The resolved configuration, flat, and the mesh.</param>
/// <param name="Tags">Where it comes from and where it runs.</param>
internal sealed record RunDescription(IReadOnlyDictionary<string, string> Parameters, IReadOnlyDictionary<string, string> Tags)
{
    /// <summary>Describes a training.</summary>
    /// <param name="config">Resolved.</param>
    /// <param name="info">What was built of it.</param>
    /// <param name="backend">How the ranks talk.</param>
    /// <param name="hosts">The machine of each rank.</param>
    /// <param name="environment">Who started it.</param>
    /// <param name="folder">Of the run.</param>
    public static RunDescription Of(
        RunConfig config, InfoMessage info, string backend, IReadOnlyList<string> hosts, TrackingEnvironment environment, RunFolder folder)
    {
        var parameters = Flatten(config);
        parameters["ranks"] = Text(hosts.Count);
        parameters["backend"] = backend;
        parameters["mesh"] = info.Mesh;
        parameters["parameters.total"] = Text(info.ParametersTotal);
        parameters["parameters.active"] = Text(info.ParametersActive);

        var machines = hosts.Distinct().ToList();
        var tags = new Dictionary<string, string>
        {
            ["mlflow.user"] = environment.User ?? Environment.UserName,
            ["mlflow.source.name"] = environment.Command ?? "Moe.Training",
            ["mlflow.source.type"] = environment.SlurmJob is null ? "LOCAL" : "JOB",
            ["moe.hosts"] = string.Join(", ", machines.Select(host => $"{host} x {hosts.Count(other => other == host)}")),
            ["moe.run_folder"] = Path.GetFullPath(folder.Path),
        };
        Add(tags, "moe.command", environment.Command);
        Add(tags, "moe.slurm_job_id", environment.SlurmJob);
        Add(tags, "moe.slurm_nodes", environment.SlurmNodes);
        if (GitState.Find(Directory.GetCurrentDirectory(), AppContext.BaseDirectory) is { } git)
        {
            Add(tags, "mlflow.source.git.commit", git.Commit);
            Add(tags, "mlflow.source.git.branch", git.Branch);
            Add(tags, "mlflow.source.git.repoURL", git.Remote);
        }

        return new RunDescription(parameters, tags);
    }

    /// <summary>
    /// Parameters that a resumed run adds: what is new by its key, what has changed under <c>resume.N.</c>, since a parameter of MLflow never changes.
    /// </summary>
    /// <param name="told">What earlier attempts have told.</param>
    /// <param name="attempt">Number of the attempt, from 1.</param>
    public Dictionary<string, string> NewParameters(IReadOnlyDictionary<string, string> told, int attempt)
    {
        var added = new Dictionary<string, string>();
        foreach (var (key, value) in Parameters)
        {
            if (!told.TryGetValue(key, out var earlier))
            {
                added[key] = value;
            }
            else if (earlier != value)
            {
                added[$"resume.{Text(attempt - 1)}.{key}"] = value;
            }
        }

        return added;
    }

    private static Dictionary<string, string> Flatten(RunConfig config)
    {
        var flat = new Dictionary<string, string>();
        foreach (var (key, value) in ConfigSchema.Root.Values(config))
        {
            if (key.Path.StartsWith("tracking.", StringComparison.Ordinal))
            {
                continue; // says where this goes, nothing of the training
            }

            if (key.Items is null)
            {
                flat[key.Path] = ConfigScalar.Write(value);
                continue;
            }

            var number = 0;
            foreach (var item in (IEnumerable<object>)value!)
            {
                foreach (var (itemKey, itemValue) in key.Items.Values(item))
                {
                    flat[$"{key.Path}.{Text(number)}.{itemKey.Path}"] = ConfigScalar.Write(itemValue);
                }

                number++;
            }
        }

        return flat;
    }

    private static void Add(Dictionary<string, string> tags, string key, string? value)
    {
        if (value is { Length: > 0 })
        {
            tags[key] = value;
        }
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}
