using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Moe.Launch.Runs;
using Moe.Training;
using Moe.Training.Hosting;

namespace Moe.Launch.Commands;

/// <summary><c>launch eval</c>: the loss of a trained model on the whole held-out text, and which experts each domain uses, in this process.</summary>
internal static class EvalCommand
{
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static Command Create(LaunchHost host)
    {
        var run = new Option<string>("--run") { Description = "Folder of the run whose newest checkpoint is loaded.", HelpName = "DIR", Required = true };
        var ui = OptionValues.Choice("--ui", "plain, or json for programs.", "plain", "json");
        var command = new Command("eval", "Evaluates a trained model on all of the held-out text.") { run, ui };
        command.SetAction(result =>
        {
            var folder = RunArgument.Find(result.GetRequiredValue(run), host, "config.yaml");
            if (AbandonedRuns.Settle(folder) is { } finding)
            {
                host.Screen.Error.WriteLine($"found: {finding}");
            }

            using var trained = TrainedRun.Open(folder.Path, host.Screen.Error.WriteLine);
            var evaluation = trained.Evaluate();
            var experts = trained.Config.Model.Moe.Experts;
            if (result.GetValue(ui) == "json")
            {
                host.Screen.Output.WriteLine(JsonSerializer.Serialize(
                    new
                    {
                        trained.Position.Step,
                        evaluation.Loss,
                        DomainPreference = evaluation.DomainPreference(experts),
                        Experts = experts,
                        evaluation.Domains,
                    },
                    Json));
                return ExitCodes.Done;
            }

            foreach (var domain in evaluation.Domains)
            {
                host.Screen.Output.WriteLine(string.Create(
                    CultureInfo.InvariantCulture, $"domain={domain.Name} eval_loss={domain.Loss:F5} tokens={domain.Tokens}"));
            }

            host.Screen.Output.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"step={trained.Position.Step} eval_loss={evaluation.Loss:F5} perplexity={Math.Exp(evaluation.Loss):F4} domain_preference={evaluation.DomainPreference(experts):F4}"));
            return ExitCodes.Done;
        });
        command.WithExamples("launch eval --run runs/mine", "launch eval --run runs/mine --ui json");
        return command;
    }
}
