using System.CommandLine;
using System.Globalization;

namespace Moe.Launch.Commands;

/// <summary><c>launch bench</c>: how fast is it on this machine, and how far from the machine's limit?</summary>
internal static class BenchCommand
{
    public static Command Create(LaunchHost host) => new("bench", "Measures speed on this machine; see benchmarks/ for the comparisons.")
    {
        Step(host),
    };

    private static Command Step(LaunchHost host)
    {
        var command = new Command("step", "Times whole training steps, and the optimizer's part of them, after a warm-up.");
        var options = new RunOptions();
        options.AddTo(command);
        var warmup = RunOptions.Count("--warmup", "Steps made first, unmeasured.", 5);
        var repeats = RunOptions.Count("--repeats", "Steps measured.", 20);
        command.Options.Add(warmup);
        command.Options.Add(repeats);
        var profile = new Option<string?>("--profile") { Description = "Writes the trace of one further step, for chrome://tracing or Perfetto.", HelpName = "FILE" };
        command.Options.Add(profile);
        command.SetAction((result, _) =>
        {
            string[] arguments = ["--warmup", Text(result.GetValue(warmup)), "--repeats", Text(result.GetValue(repeats))];
            return RankRun.ExecuteAsync(
                options.Read(result, "bench", result.GetValue(profile) is { } file ? [.. arguments, "--profile", Path.GetFullPath(file)] : arguments), host);
        });
        return command.WithExamples(
            "launch bench step --config configs/bench/cpu-4r.yaml --nodes 4",
            "launch bench step --nodes 4 --set optimizer.name=sgd --ui json | jq .optimizer_ms");
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
