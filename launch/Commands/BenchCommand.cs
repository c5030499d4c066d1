using System.CommandLine;
using System.Globalization;
using Moe.Training.Benchmarks;

namespace Moe.Launch.Commands;

/// <summary><c>launch bench</c>: how fast is it on this machine, and how far from the machine's limit?</summary>
internal static class BenchCommand
{
    public static Command Create(LaunchHost host)
    {
        var command = new Command("bench", "Measures speed on this machine, whole steps or kernel by kernel; docs/kernels.md says how, benchmarks/ has comparisons.") { Step(host) };
        foreach (var family in KernelBench.Names)
        {
            command.Subcommands.Add(Kernels(family, host));
        }

        return command.WithExamples(
            "launch bench step --config configs/bench/cpu-4r.yaml --nodes 4                 where is the whole?",
            "launch bench dispatch --config configs/bench/cpu-4r.yaml --nodes 4             and its parts: dispatch, experts, attention, head, optimizer");
    }

    private static Command Step(LaunchHost host)
    {
        var command = new Command("step", "Times whole training steps, and the optimizer's part of them, after a warm-up.");
        var options = new RunOptions();
        options.AddTo(command);
        var warmup = RunOptions.Count("--warmup", "Steps made first, unmeasured.", 5);
        var repeats = RunOptions.Count("--repeats", "Steps measured.", 20);
        command.Options.Add(warmup);
        command.Options.Add(repeats);
        var profile = new ProfileOptions(choosesSteps: false);
        profile.AddTo(command);
        command.SetAction((result, _) =>
        {
            string[] arguments = ["--warmup", Text(result.GetValue(warmup)), "--repeats", Text(result.GetValue(repeats))];
            return RankRun.ExecuteAsync(
                options.Read(result, "bench", arguments).Profiled(profile.Read(result, host.WorkingDirectory)), host);
        });
        return command.WithExamples(
            "launch bench step --config configs/bench/cpu-4r.yaml --nodes 4",
            "launch bench step --nodes 4 --set optimizer.name=sgd --ui json | jq .optimizer_ms");
    }

    private static Command Kernels(string family, LaunchHost host)
    {
        var command = new Command(family, $"Times the kernels of {What(family)}, each against its ceiling.");
        var options = new RunOptions();
        options.AddTo(command);
        var warmup = RunOptions.Count("--warmup", "Rounds over all inputs made first, unmeasured.", 2);
        var repeats = RunOptions.Count("--repeats", "Measurements of each kernel; the table has their median and spread.", 10);
        command.Options.Add(warmup);
        command.Options.Add(repeats);
        command.SetAction((result, _) =>
        {
            string[] arguments = ["--kernels", family, "--warmup", Text(result.GetValue(warmup)), "--repeats", Text(result.GetValue(repeats))];
            return RankRun.ExecuteAsync(options.Read(result, "bench", arguments) with { Demand = config => KernelBench.Check(family, config) }, host);
        });
        return command.WithExamples(
            $"launch bench {family} --config configs/bench/cpu-4r.yaml --nodes 4            shapes are the configuration's, a rank's",
            $"launch bench {family} --config configs/bench/olmoe-8l.yaml                    on a GPU",
            $"launch bench {family} --set train.precision=bfloat16 --ui json | jq -r '.kernels[] | [.name, .direction, .ms, .of_ceiling_pct] | @tsv'",
            "",
            "A line says what a call takes (median, a tenth below, a tenth above), what it must move and compute, the rate that it reached, which ceiling",
            "is nearest (a large copy, a large matrix product, a plain exchange of as much; measured in the same run, all ranks at work), how near it is,",
            "and how often a step calls it: what isn't called is part of another line, or for another device. docs/kernels.md says how it is counted.");
    }

    private static string What(string family) => family switch
    {
        "dispatch" => "router and dispatch: scores, choice, order, copies of rows, exchanges between ranks",
        "experts" => "the feed-forward parts: grouped products and SwiGLU of experts, shared experts, dense layers",
        "attention" => "attention: embedding, norms, projections, rotary embedding, attention itself",
        "head" => "the head: its product and cross-entropy in chunks",
        _ => "the update: reduction, norm and clipping of gradients, the optimizer's step, sharing of weights",
    };

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
