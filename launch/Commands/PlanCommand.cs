using System.CommandLine;
using System.Globalization;
using Moe.Launch.Runs;
using Moe.Launch.Terminal;
using Moe.Torch;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using Moe.Training.Planning;

namespace Moe.Launch.Commands;

/// <summary><c>launch plan</c>: what a configuration would take and how fast it would be on some ranks, without starting any.</summary>
internal static class PlanCommand
{
    private const int MostRanks = 1 << 20;
    private const int MostAlternatives = 5;

    public static Command Create(LaunchHost host)
    {
        var command = new Command("plan", "Predicts memory, communication and speed of a configuration on a mesh, without starting a rank.");
        var (config, set) = (RunOptions.ConfigOption(), RunOptions.SetOption());
        var nodes = Count("--nodes", "Number of nodes.");
        var perNode = Count("--procs-per-node", "Ranks of a node; under --scale of a full one.");
        var device = new Option<string>("--device")
        {
            Description = "What each rank has: a name in configs/devices (a100, h100, h200), a file of that form, or cpu, which measures this machine for some seconds.",
            HelpName = "NAME|FILE",
            DefaultValueFactory = _ => "cpu",
        };
        var load = OptionValues.Number("--load", "Rows of the busiest rank's experts over the mean; 1 is even.", "X", 1, 1, 1e6);
        var scale = new Option<string?>("--scale") { Description = "Plans every doubling of the ranks, the best mesh for each.", HelpName = "FIRST..LAST" };
        var batch = OptionValues.OptionalWhole("--global-batch", "Sequences of a step in strong scaling. Default: one a rank of the largest job.", 1, MostRanks);
        var output = new Option<string?>("--output", "-o") { Description = "Where the curve of --scale is drawn, as SVG.", HelpName = "FILE" };
        var save = new Option<string?>("--save-device") { Description = "Writes the measured device, for --device FILE.", HelpName = "FILE" };
        var ui = OptionValues.Choice("--ui", "plain: for people; json: one object.", RunViews.Plain, RunViews.Json);
        foreach (var option in new Option[] { config, nodes, perNode, device, load, set, scale, batch, output, save, ui })
        {
            command.Options.Add(option);
        }

        command.SetAction(result =>
        {
            var resolved = ConfigReader.Read(DefaultConfig.Resolve(result.GetValue(config), host), result.GetValue(set) ?? []);
            var (nodeCount, ranksOfNode) = (result.GetValue(nodes), result.GetValue(perNode));
            var json = result.GetValue(ui) == RunViews.Json;
            if (result.GetValue(scale) is { } range)
            {
                var (first, last) = Range(range);
                var record = Device(result.GetValue(device)!, resolved.Config, ranksOfNode, result.GetValue(save), host);
                return Scale(ScalingCurve.Of(resolved.Config, record, ranksOfNode, first, last, result.GetValue(batch), result.GetValue(load)), result.GetValue(output), json, host);
            }

            if (result.GetValue(output) is not null)
            {
                throw new LaunchException(ExitCodes.Usage, "--output is where --scale draws its curve, and there is no --scale", "--scale 1..16384");
            }

            if ((long)nodeCount * ranksOfNode > MostRanks)
            {
                throw new LaunchException(ExitCodes.Usage, $"--nodes {nodeCount} times --procs-per-node {ranksOfNode} are more than {MostRanks} ranks", "fewer of either");
            }

            ConfigRules.ValidateMesh(resolved, nodeCount * ranksOfNode);
            return Show(resolved.Config, Device(result.GetValue(device)!, resolved.Config, nodeCount * ranksOfNode, result.GetValue(save), host), nodeCount, ranksOfNode, result.GetValue(load), json, host);
        });
        return command.WithExamples(
            "launch plan --config my.yaml --nodes 4                                         on this machine, measured now",
            "launch plan --config configs/bench/olmoe-8l.yaml --nodes 2 --procs-per-node 8 --device h100",
            "launch plan --config configs/bench/olmoe-8l.yaml --device h100 --procs-per-node 8 --scale 1..16384 -o curve.svg --set optimizer.experts_in_backward=false",
            "",
            "Exit codes: 0 it fits, 1 usage or configuration, 2 it does not fit (with the meshes that do).");
    }

    private static int Show(RunConfig config, DeviceRecord device, int nodes, int perNode, double load, bool json, LaunchHost host)
    {
        var plan = StepPlan.Of(config, device, nodes, perNode, load);
        var others = MeshSearch.Fitting(plan, MostAlternatives, load);
        if (json)
        {
            PlanJson.Write(host.Screen.Output, plan, plan.Choices(load), others);
        }
        else
        {
            PlanText.Write(host.Screen.Output, plan, plan.Choices(load), others);
        }

        if (plan.Fits)
        {
            return ExitCodes.Done;
        }

        var nearest = others.Count > 0
            ? string.Join(" or ", others.Take(2).Select(other => $"--set parallel.expert_parallel={other.ExpertParallel} --set train.micro_batch={other.Config.Train.MicroBatch} --set train.accumulation={other.Config.Train.Accumulation}"))
            : $"{(plan.Config.Optimizer.ExpertsInBackward ? "--set optimizer.experts_in_backward=false, for several micro-batches a step, " : "")}more ranks, or a smaller model: no mesh of these ranks fits";
        host.Screen.WriteHeadline(!plan.IsWithinBudget
            ? $"it does not fit: the tensors of the fullest rank need {Gib(plan.Memory.Peak - plan.Memory.Process)} GiB at least, train.memory_budget is {plan.Config.Train.MemoryBudget}"
            : MetricText.Invariant($"it does not fit: the fullest rank needs {Gib(plan.Memory.Peak)} GiB, {plan.Device.Name} has {Gib(plan.Device.Memory)}{(plan.Device.SharedCores is null ? "" : " for all ranks")}"));
        host.Screen.WriteParagraph("try", nearest);
        return ExitCodes.Preflight;
    }

    private static int Scale(ScalingCurve curve, string? output, bool json, LaunchHost host)
    {
        if (curve.Weak.Concat(curve.Strong).All(point => point.Plan is null))
        {
            throw new LaunchException(ExitCodes.Preflight, "no size of the range fits, with any mesh and micro-batch", "more ranks, or a smaller model");
        }

        if (json)
        {
            PlanJson.Write(host.Screen.Output, curve);
        }
        else
        {
            PlanText.Write(host.Screen.Output, curve);
        }

        if (output is not null)
        {
            host.Screen.Error.WriteLine($"drawn: {host.Shorten(OutputArgument.Write(output, ScalingPicture.Draw(curve), host))}");
        }

        return ExitCodes.Done;
    }

    private static DeviceRecord Device(string name, RunConfig config, int ranks, string? save, LaunchHost host)
    {
        if (name == "cpu")
        {
            TorchRuntime.KeepFreedMemory();
            var measured = MachineMeasurement.Measure(config, ranks);
            if (save is not null)
            {
                OutputArgument.Write(save, DeviceFile.Write(measured), host);
            }

            return measured;
        }

        if (save is not null)
        {
            throw new LaunchException(ExitCodes.Usage, $"--save-device writes what was measured, and --device {name} is read from a file", "--device cpu");
        }

        var path = Path.GetFullPath(name, host.WorkingDirectory);
        if (File.Exists(path))
        {
            return DeviceFile.Read(host.Shorten(path));
        }

        var folder = Repository.Find(host.WorkingDirectory) is { } root ? Path.Combine(root, "configs", "devices") : null;
        var known = folder is not null && Directory.Exists(folder) ? Directory.EnumerateFiles(folder, "*.yaml").Select(Path.GetFileNameWithoutExtension).Order().ToList() : [];
        return known.Contains(name)
            ? DeviceFile.Read(host.Shorten(Path.Combine(folder!, $"{name}.yaml")))
            : throw new LaunchException(ExitCodes.Usage, $"there is no device '{name}', neither a file nor a name in configs/devices", $"--device {string.Join(", ", known.Prepend("cpu"))}, or a file of that form");
    }

    private static (int First, int Last) Range(string text)
    {
        var ends = text.Split("..");
        return ends.Length == 2
            && int.TryParse(ends[0], NumberStyles.None, CultureInfo.InvariantCulture, out var first)
            && int.TryParse(ends[1], NumberStyles.None, CultureInfo.InvariantCulture, out var last)
            && first >= 1 && last >= first && last <= MostRanks
                ? (first, last)
                : throw new LaunchException(ExitCodes.Usage, $"--scale takes FIRST..LAST, whole numbers from 1 to {MostRanks}, not '{text}'", "--scale 1..16384");
    }

    private static Option<int> Count(string name, string description) => OptionValues.Whole(name, description, 1, 1, MostRanks);

    private static string Gib(double bytes) => (bytes / (1 << 30)).ToString("0.##", CultureInfo.InvariantCulture);
}
