using System.CommandLine;
using Moe.Training.Configuration;

namespace Moe.Launch.Commands;

/// <summary><c>launch config show</c>: the resolved configuration, with where each value came from.</summary>
internal static class ConfigCommand
{
    public static Command Create(LaunchHost host)
    {
        var show = new Command("show", "Prints every key with its value and the file and line (or option, or default) that it came from.");
        var config = RunOptions.ConfigOption();
        var set = RunOptions.SetOption();
        var explain = new Option<bool>("--explain") { Description = "With the meaning of each key above it." };
        show.Options.Add(config);
        show.Options.Add(set);
        show.Options.Add(explain);
        show.SetAction(result =>
        {
            var resolved = ConfigReader.Read(DefaultConfig.Resolve(result.GetValue(config), host), result.GetValue(set) ?? []);
            host.Screen.Output.Write(ConfigYaml.ToAnnotatedYaml(resolved, result.GetValue(explain)));
            host.Screen.Output.Write(AssignmentTable.Write(resolved.Config));
            foreach (var warning in resolved.Warnings)
            {
                host.Screen.Error.WriteLine($"warning: {warning}");
            }

            return Training.Hosting.ExitCodes.Done;
        });
        show.WithExamples("launch config show", "launch config show --config my.yaml --set train.steps=100", "launch config show --explain");

        var command = new Command("config", "Looks at configurations.");
        command.Subcommands.Add(show);
        return command.WithExamples("launch config show --config my.yaml", "launch config show --explain");
    }
}
