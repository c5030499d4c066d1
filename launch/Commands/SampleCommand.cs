using System.CommandLine;
using Moe.Launch.Runs;
using Moe.Training;
using Moe.Training.Hosting;
using Moe.Training.Sampling;

namespace Moe.Launch.Commands;

/// <summary><c>launch sample</c>: continues a text with a trained model, in this process.</summary>
internal static class SampleCommand
{
    public static Command Create(LaunchHost host)
    {
        var run = new Option<string>("--run") { Description = "Folder of the run whose newest checkpoint is loaded.", HelpName = "DIR", Required = true };
        var prompt = new Option<string>("--prompt") { Description = "Text to continue.", HelpName = "TEXT", DefaultValueFactory = _ => "\n" };
        var tokens = OptionValues.Whole("--tokens", "Tokens to draw; with the byte tokenizer, bytes.", 400, 0, int.MaxValue);
        var temperature = OptionValues.Number("--temperature", "Below 1 likelier tokens are preferred; 0 always takes the likeliest.", "T", 0.8, 0);
        var seed = new Option<ulong>("--seed") { Description = "The same seed draws the same text.", HelpName = "S", DefaultValueFactory = _ => 1 };
        var command = new Command("sample", "Continues a text with a trained model.") { run, prompt, tokens, temperature, seed };
        command.SetAction(result =>
        {
            var folder = RunArgument.Find(result.GetRequiredValue(run), host, "config.yaml");
            if (AbandonedRuns.Settle(folder) is { } finding)
            {
                host.Screen.Error.WriteLine($"found: {finding}");
            }

            using var trained = TrainedRun.Open(folder.Path, host.Screen.Error.WriteLine);
            var text = result.GetRequiredValue(prompt);
            host.Screen.Output.Write(text);
            var generator = new TextGenerator(trained.Model, result.GetValue(seed));
            foreach (var piece in generator.Continue(text, result.GetValue(tokens), result.GetValue(temperature)))
            {
                host.Screen.Output.Write(piece);
                host.Screen.Output.Flush();
            }

            host.Screen.Output.WriteLine();
            return ExitCodes.Done;
        });
        command.WithExamples(
            "launch sample --run runs/mine --prompt \"ROMEO:\"",
            "launch sample --run runs/mine --prompt \"ROMEO:\" --temperature 0 --tokens 100");
        return command;
    }
}
