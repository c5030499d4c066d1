using System.CommandLine;
using System.Globalization;
using Moe.Launch.Sweeps;
using Moe.Training.Hosting;

namespace Moe.Launch.Commands;

/// <summary><c>launch sweep</c>: trains one run for each combination of values, and compares them.</summary>
internal static class SweepCommand
{
    public static Command Create(LaunchHost host)
    {
        var command = new Command("sweep", "Trains a run for each combination of values, so many at a time, and compares them. The same command continues.");
        var options = new RunOptions();
        var grid = new Option<string[]>("--grid") { Description = "A key and its values; may be repeated.", HelpName = "key.path=value,value,...", DefaultValueFactory = _ => [] };
        var seeds = new Option<string?>("--seeds") { Description = "Seeds that each combination is trained with; the results then have their spread.", HelpName = "1,2,3" };
        var parallel = RunOptions.Count("--parallel", "Runs at a time; they share the machine's cores.");
        var name = new Option<string?>("--name") { Description = "Folder in runs/sweeps. Default: the run's name and the keys of the grid.", HelpName = "NAME" };
        var metric = new Option<string>("--metric") { Description = "Key of metrics.jsonl whose last value ranks the runs.", HelpName = "KEY", DefaultValueFactory = _ => "eval/loss" };
        var maximize = new Option<bool>("--maximize") { Description = "A larger value of the metric is better." };
        var retry = new Option<bool>("--retry-failed") { Description = "Also runs again what failed before." };
        var list = new Option<bool>("--dry-run") { Description = "Checks and lists the runs, and starts none." };
        foreach (var option in new Option[]
        {
            options.Config, grid, seeds, parallel, options.Nodes, options.ProcessesPerNode, options.Backend, options.Set, name, metric, maximize, retry, list, options.Ui,
        })
        {
            command.Options.Add(option);
        }

        command.SetAction((result, _) => Sweep.ExecuteAsync(
            new SweepRequest(
                result.GetValue(options.Config),
                result.GetValue(options.Set) ?? [],
                [.. (result.GetValue(grid) ?? []).Select(GridAxis.Parse)],
                Seeds(result.GetValue(seeds)),
                result.GetValue(options.Nodes),
                result.GetValue(options.ProcessesPerNode),
                result.GetValue(options.Backend)!,
                result.GetValue(parallel),
                result.GetValue(name),
                result.GetValue(metric)!,
                result.GetValue(maximize),
                result.GetValue(retry),
                result.GetValue(list),
                result.GetValue(options.Ui)!),
            host));
        return command.WithExamples(
            "launch sweep --config my.yaml --grid optimizer.learning_rate=1e-3,3e-3 --grid optimizer.name=adamw,muon --nodes 4",
            "launch sweep --config my.yaml --grid model.moe.top_k=1,2 --seeds 1,2,3 --parallel 2 --metric train/loss",
            "",
            "Ctrl-C once: all runs save, exit 75; the same command continues. Twice: leave at once.",
            "Exit codes: 0 all done, 1 usage or configuration, 2 preflight, 3 a run failed, 75 stopped.");
    }

    private static List<ulong> Seeds(string? text)
    {
        var seeds = new List<ulong>();
        foreach (var word in text?.Split(',', StringSplitOptions.TrimEntries) ?? [])
        {
            if (!ulong.TryParse(word, NumberStyles.None, CultureInfo.InvariantCulture, out var seed))
            {
                throw new LaunchException(ExitCodes.Usage, $"--seeds {text}: '{word}' is no whole number of at least 0", "--seeds 1,2,3");
            }

            seeds.Add(seed);
        }

        return seeds.Distinct().Count() == seeds.Count ? seeds : throw new LaunchException(ExitCodes.Usage, $"--seeds {text} has a seed twice", "--seeds 1,2,3");
    }
}
