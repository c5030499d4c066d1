using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using Moe.Launch.Terminal;

namespace Moe.Launch.Commands;

/// <summary>The command line: <c>launch</c> with its sub-commands, each of which has a file beside this one.</summary>
internal static class CommandTree
{
    /// <summary>An option of every command.</summary>
    public const string VerbosityName = "--verbosity";

    /// <summary>Builds the tree. <c>launch</c> without a sub-command is <c>launch train</c>.</summary>
    public static RootCommand Build(LaunchHost host)
    {
        var root = new RootCommand("Trains Mixture-of-Experts language models across processes. Without a command it trains.");
        root.Options.Add(VerbosityOption());
        TrainCommand.Configure(root, host);
        root.Subcommands.Add(TrainCommand.Create(host));
        root.Subcommands.Add(SweepCommand.Create(host));
        root.Subcommands.Add(VerifyCommand.Create(host));
        root.Subcommands.Add(BenchCommand.Create(host));
        root.Subcommands.Add(SampleCommand.Create(host));
        root.Subcommands.Add(EvalCommand.Create(host));
        root.Subcommands.Add(ReportCommand.Create(host));
        root.Subcommands.Add(DashboardCommand.Create(host));
        root.Subcommands.Add(DataCommand.Create(host));
        root.Subcommands.Add(ConfigCommand.Create(host));
        root.Subcommands.Add(ScheduleCommand.Create(host));
        root.Subcommands.Add(MlflowCommand.Create(host));
        root.Subcommands.Add(PlanCommand.Create(host));
        root.Subcommands.Add(SlurmCommand.Create(host));
        root.Subcommands.Add(DoctorCommand.Create(host));
        return root;
    }

    /// <summary>What a command line asks for with <c>--verbosity</c>.</summary>
    public static Verbosity VerbosityOf(ParseResult result) => result.Errors.Count > 0 ? Verbosity.Normal : result.GetValue<string>(VerbosityName) switch
    {
        "q" => Verbosity.Quiet,
        "d" => Verbosity.Detailed,
        _ => Verbosity.Normal,
    };

    // Of all commands, and it may stand before them.
    private static Option<string> VerbosityOption()
    {
        var option = OptionValues.Choice(VerbosityName, "q: errors only; n: normal; d: with stack traces.", "n", "q", "d");
        option.Recursive = true;
        return option;
    }

    /// <summary>Lets a command's help end with examples.</summary>
    public static T WithExamples<T>(this T command, params string[] examples)
        where T : Command
    {
        var help = command.Options.OfType<HelpOption>().FirstOrDefault();
        if (help is null)
        {
            help = new HelpOption();
            command.Options.Add(help);
        }

        help.Action = new HelpWithExamples((HelpAction)help.Action!, examples);
        return command;
    }

    private sealed class HelpWithExamples(HelpAction help, IReadOnlyList<string> examples) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            var code = help.Invoke(parseResult);
            var output = parseResult.InvocationConfiguration.Output;
            output.WriteLine("Examples:");
            foreach (var example in examples)
            {
                output.WriteLine($"  {example}");
            }

            return code;
        }
    }
}
