using System.CommandLine;
using Moe.Launch;
using Moe.Launch.Commands;
using Moe.Launch.Supervision;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>What a command line that will not do is answered with: one message that names the option and what it takes, and exit code 1.</summary>
internal sealed class UsageTests : LaunchTests
{
    [TestCase("--nodes takes a whole number from 1 to 4096, not '1.5'.", "train", "--nodes", "1.5")]
    [TestCase("--nodes takes a whole number from 1 to 4096, not '99999999999'.", "train", "--nodes", "99999999999")]
    [TestCase("--nodes takes a whole number from 1 to 4096, not '0'.", "--nodes", "0")]
    [TestCase("--nodes takes a whole number from 1 to 1048576, not 'x'.", "plan", "--nodes", "x")]
    [TestCase("--node-rank takes a whole number from 0 to 4095, not '-1'.", "train", "--node-rank", "-1")]
    [TestCase("--tokens takes a whole number of at least 0, not '-1'.", "sample", "--run", ".", "--tokens", "-1")]
    [TestCase("--temperature takes a number of at least 0, not 'warm'.", "sample", "--run", ".", "--temperature", "warm")]
    [TestCase("--smooth takes a number from 0 to 1, not '2'.", "schedule", "refine", "--run", ".", "--smooth", "2")]
    [TestCase("--seed takes a whole number, not '1.5'.", "sample", "--run", ".", "--seed", "1.5")]
    [TestCase("--ui takes auto, live, plain or json, not 'foo'.", "train", "--ui", "foo")]
    [TestCase("--verbosity takes n, q or d, not 'loud'.", "train", "--verbosity", "loud")]
    public void Value_that_an_option_does_not_take_is_told_with_what_it_takes(string message, params string[] arguments)
    {
        Assert.That(Launched.StartBare("done", arguments).End(), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.StartWith($"✗ {message}\n  try     launch ").And.EndWith(" --help\n"));
        Assert.That(Launched.Error.Split('\n'), Has.Length.EqualTo(3), "nothing else");
    }

    [TestCase("'--nope' is no option of launch dashboard", "dashboard", "--nope")]
    [TestCase("'--prot' is no option of launch dashboard; did you mean --port?", "dashboard", "--prot", "1")]
    [TestCase("'--nope' is no option of launch data inspect", "data", "inspect", "--nope")]
    [TestCase("'--nope' is no option of launch data prepare", "data", "prepare", "--nope", "x", "-o", "y")]
    [TestCase("'-x' is no option of launch data prepare", "data", "prepare", "text.txt", "-x", "-o", "y")]
    [TestCase("launch train takes no words, only options, not 'extra'", "train", "extra")]
    [TestCase("'more' is one word too many: launch dashboard takes RUNS_DIR", "dashboard", ".", "more")]
    [TestCase("launch data needs a command: prepare, inspect", "data")]
    [TestCase("launch data inspect needs FOLDER", "data", "inspect")]
    [TestCase("launch sample needs --run DIR", "sample")]
    [TestCase("--set needs a value: key.path=value", "train", "--set")]
    [TestCase("--config takes one value, not 2: 'a', 'b'", "train", "--config", "a", "--config", "b")]
    public void Command_line_that_is_no_call_is_told_in_one_sentence(string message, params string[] arguments)
    {
        Assert.That(Launched.StartBare("done", arguments).End(), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.StartWith($"✗ {message}\n  try     launch ").And.EndWith(" --help\n"));
        Assert.That(Launched.Error.Split('\n'), Has.Length.EqualTo(3), "nothing else");
    }

    [TestCase("--", "--odd"), TestCase("./--odd")]
    public void Name_that_begins_as_an_option_does_can_be_given(params string[] words)
    {
        Assert.That(Launched.StartBare("done", ["data", "inspect", .. words]).End(), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("--odd").And.Not.Contain("is no option"));
    }

    [Test]
    public void Help_beside_an_unknown_option_is_help() =>
        Assert.That(Launched.StartBare("done", "data", "inspect", "--nope", "--help").End(), Is.Zero, Launched.Error);

    [Test]
    public void Override_without_a_value_is_told_once()
    {
        Assert.That(Launched.StartBare("done", "config", "show", "--config", Launched.ConfigFile, "--set", "foo").End(), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("\n  --set: foo isn't of the form key.path=value; for example --set train.steps=100\n"));
    }

    [TestCase("abc"), TestCase("1:2:3:4"), TestCase("1-"), TestCase("1.5"), TestCase("2h"), TestCase("1-2-3")]
    public void Time_limit_that_Slurm_would_not_read_is_refused(string time)
    {
        Assert.That(Render(time), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.StartWith("✗ --time takes minutes, minutes:seconds, ").And.Contain($"not '{time}'."));
        Assert.That(Launched.Output, Is.Empty);
    }

    [TestCase("90"), TestCase("90:00"), TestCase("02:00:00"), TestCase("1-12"), TestCase("1-12:30"), TestCase("1-12:30:00"), TestCase("UNLIMITED"), TestCase("unlimited")]
    public void Time_limit_in_a_form_of_Slurm_is_taken_as_it_is(string time)
    {
        Assert.That(Render(time), Is.Zero, Launched.Error);
        Assert.That(Launched.Output, Does.Contain($"#SBATCH --time={time}\n"));
    }

    [TestCase("sample"), TestCase("eval"), TestCase("report"), TestCase("schedule", "refine"), TestCase("mlflow", "status"), TestCase("mlflow", "sync")]
    public void Run_folder_that_is_not_there_is_a_mistake_of_the_command_line(params string[] command)
    {
        Assert.That(Launched.StartBare("done", [.. command, "--run", "nope"]).End(), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Is.EqualTo("✗ there is no folder 'nope'\n  try     the folder that training printed, such as runs/NAME\n"));
    }

    [TestCase("sample"), TestCase("eval"), TestCase("report"), TestCase("schedule", "refine")]
    public void Folder_that_holds_no_run_is_a_mistake_of_the_command_line(params string[] command)
    {
        Assert.That(Launched.StartBare("done", [.. command, "--run", "."]).End(), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.StartWith("✗ '.' is no run folder: it has ").And.Contain("\n  try     the folder that training printed, such as runs/NAME\n"));
    }

    [Test]
    public void Folder_as_configuration_file_is_called_a_folder()
    {
        Assert.That(Launched.StartBare("done", "train", "--config", Launched.Scratch).End(), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain($"the configuration file {Launched.Scratch} is a folder\n"));
    }

    [TestCase("", "domain text: '.*text.txt' is empty; a text to train on")]
    [TestCase("ab", "is longer than the data: .* has 2 training tokens of 2; a longer text")]
    [TestCase("abcdefgh", "is longer than the data: .*; at most 7")]
    public void Text_too_short_to_train_on_is_told_with_what_would_do(string text, string message)
    {
        File.WriteAllText(Path.Combine(Launched.Scratch, "text.txt"), text);

        Assert.That(Launched.Start("done", "--set", "train.eval_every=0", "--set", "data.eval_fraction=0").End(), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Match(message));
        Assert.That(Directory.Exists(Launched.Folder.Path), Is.False);
    }

    [TestCaseSource(nameof(Commands))]
    public void Help_ends_with_examples_of_the_command_itself(string path)
    {
        var output = new StringWriter();
        Tree().Parse([.. path.Split(' ')[1..], "--help"]).Invoke(new InvocationConfiguration { Output = output });

        var examples = output.ToString().Split("Examples:\n")[^1].Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.That(examples[0] + " ", Does.StartWith(path == "launch train" ? "  launch --" : $"  {path} "), "the first example; train may be left out");
    }

    // Beside "[default: ...]", which the help adds, it would be said twice, or otherwise.
    [TestCaseSource(nameof(Commands))]
    public void Option_with_a_default_does_not_describe_it(string path)
    {
        var command = path.Split(' ')[1..].Aggregate((Command)Tree(), (parent, name) => parent.Subcommands.Single(child => child.Name == name));
        Assert.That(command.Options.Where(option => option.HasDefaultValue).Select(option => option.Description), Has.None.Contains("Default:"));
    }

    private static RootCommand Tree() => CommandTree.Build(LaunchHost.OfThisProcess(RankProgram.Trainer));

    private static IEnumerable<string> Commands() => Below(Tree(), "launch").Order(StringComparer.Ordinal);

    private static IEnumerable<string> Below(Command command, string path) =>
        command.Subcommands.SelectMany(child => Below(child, $"{path} {child.Name}").Prepend($"{path} {child.Name}"));

    private int Render(string time) => Launched.StartBare("done", "slurm", "render", "--config", Launched.ConfigFile, "--time", time).End();
}
