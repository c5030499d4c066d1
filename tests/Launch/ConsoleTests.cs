using System.Text.Json;
using System.Text.RegularExpressions;
using Moe.Launch.Terminal;
using Moe.Training.Hosting;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>What the launcher prints, and where.</summary>
internal sealed class ConsoleTests : LaunchTests
{
    [Test]
    public void First_line_says_that_nodes_are_simulated()
    {
        Launched.Start("done", "--nodes", "2", "--procs-per-node", "2", "--backend", "gloo").End();

        // Nothing of who may connect: c10d's store and mpirun listen on all interfaces.
        Assert.That(Launched.Output.Split('\n')[0], Does.Match("^2 nodes simulated on this machine: 2 local groups of 2 rank\\(s\\) over gloo, [0-9]+ thread\\(s\\) each$"));
    }

    [Test]
    public void Piped_output_is_plain_key_value_lines_without_escape_codes([Values("auto", "live", "plain")] string ui)
    {
        Launched.Start("done", "--backend", "gloo", "--ui", ui).End();

        Assert.That(Launched.Output, Does.Match(@"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ step=3/5 loss=1\.66667 tok_s=84120 step_ms=20\.0$"));
        Assert.That(Launched.Output, Does.Match(@"(?m)status=done exit_code=0 elapsed_s=\d+\.\d$"));
        Assert.That(Launched.Output + Launched.Error, Does.Not.Contain('\u001b'));
    }

    [Test]
    public void Terminal_shows_progress_in_place_within_its_width([Values(60, 100)] int columns)
    {
        var code = Launched.StartOnTerminal(columns, "done", "--nodes", "4", "--backend", "gloo").End();

        Assert.That(code, Is.Zero, Launched.Output);
        Assert.That(Plain(Launched.Output), Does.Contain("step 5/5  100.0 %").And.Contain("loss 1.000 ").And.Contain("experts ▅▃▆▅"));
        Assert.That(Launched.Output, Does.Match("\u001b\\[\\d+A"), "the cursor moves up to draw over the lines before");
        Assert.That(Launched.Output, Does.Match("\u001b\\[[\\d;]+m"), "colours");
        string[] said = ["simulated", "run ", "domain "]; // once, and as long as they are
        var lines = Plain(Launched.Output).Split('\r', '\n')
            .Where(line => !said.Any(word => line.Contains(word, StringComparison.Ordinal)));
        Assert.That(lines, Is.All.Length.LessThanOrEqualTo(columns));
    }

    [Test]
    public void Live_lines_leave_standing_what_was_said_before_them()
    {
        Launched.StartOnTerminal(100, "done", "--nodes", "2", "--backend", "gloo").End();

        Assert.That(Launched.Output, Does.Contain("2 nodes simulated on this machine"));
        Assert.That(Launched.Output, Does.Not.Contain("\u001b[0A"), "terminals move up by one line, over what was said");
    }

    [Test]
    public void No_color_means_no_colour_even_on_a_terminal()
    {
        Launched.Environment["NO_COLOR"] = "1";

        Launched.StartOnTerminal(80, "throw@0", "--nodes", "2", "--backend", "gloo").End();

        Assert.That(Launched.Output, Does.Contain("✗ train failed after"));
        Assert.That(Launched.Output, Does.Not.Match("\u001b\\[[\\d;]*m"));
    }

    private static string Plain(string output) => Regex.Replace(output, "\u001b\\[[\\d;?]*[A-Za-z]", "");

    [Test]
    public void Slow_rank_is_named_with_its_lag_behind_the_median()
    {
        Launched.StartOnTerminal(100, "slow", "--nodes", "4", "--backend", "gloo").End();
        Assert.That(Launched.Output, Does.Contain("slow against the median: rank 2 (+27 %)").And.Contain("checkpoint step 2"));

        Launched.Start("slow", "--nodes", "4", "--backend", "gloo").End();
        Assert.That(Launched.Output, Does.Contain("slow_rank=2 slow_by=0.27"));
    }

    [Test]
    public void Tracker_state_is_told_from_the_files_of_the_run()
    {
        var folder = new RunFolder(Directory.GetParent(Launched.ConfigFile)!.FullName);
        Assert.That(new TrackerLine(folder).Text, Is.Null, "not tracked");

        var state = new TrackingState("http://tracker", "experiment", "run", "mark", StartTime: 0);
        File.WriteAllBytes(folder.TrackingFile, new byte[2048]);
        state.Write(folder.TrackingStateFile);
        Assert.That(new TrackerLine(folder).Text, Is.EqualTo("mlflow not reached"));
        (state with { RunId = "1", Synced = 512 }).Write(folder.TrackingStateFile);
        Assert.That(new TrackerLine(folder).Text, Is.EqualTo("mlflow 1.5 KiB queued"));
        (state with { RunId = "1", Synced = 2048 }).Write(folder.TrackingStateFile);
        Assert.That(new TrackerLine(folder).Text, Is.EqualTo("mlflow ok"));
    }

    [Test]
    public void Terminal_without_Unicode_gets_ASCII_alone([Values("C", "de_DE.ISO-8859-1")] string locale)
    {
        Launched.Environment["LC_ALL"] = locale;

        Launched.StartOnTerminal(100, "done", "--nodes", "4", "--backend", "gloo").End();

        Assert.That(Plain(Launched.Output), Does.Contain("experts =-+="));
        Assert.That(Launched.Output, Does.Match("^[\u0000-\u007e]*$"));
    }

    [Test]
    public void Failure_on_a_terminal_without_Unicode_has_no_cross()
    {
        Launched.Environment["LC_ALL"] = "C";

        Launched.StartOnTerminal(80, "throw@0", "--backend", "gloo").End();

        Assert.That(Launched.Output, Does.Contain("x train failed after"));
    }

    [Test]
    public void Lines_follow_a_terminal_that_becomes_narrower()
    {
        var mark = Path.Combine(Path.GetDirectoryName(Launched.ConfigFile)!, "resize");
        Launched.StartOnTerminalAfter(
            $"stty cols 120 rows 30; (until [ -e {mark} ]; do sleep 0.05; done; stty cols 50 < /dev/tty) & true",
            "long", "--config", Launched.ConfigFile, "--run-dir", Launched.Folder.Path, "--nodes", "4", "--backend", "gloo");
        Launched.Wait(() => Regex.IsMatch(Launched.Output, @"step [2-9]\d/"), "twenty steps");
        File.WriteAllText(mark, "");
        Launched.End();

        var frames = Launched.Output.Split("\u001b[J").Select(frame => Plain(frame).Split('\r', '\n')).ToList();
        Assert.That(frames.Exists(frame => Array.Exists(frame, line => line.Length > 60)), Is.True, "wide before");
        Assert.That(frames[^1], Is.All.Length.LessThan(50), Launched.Output);
    }

    [Test]
    public void Dumb_terminal_gets_plain_lines()
    {
        Launched.Environment["TERM"] = "dumb";

        Launched.StartOnTerminal(80, "done", "--backend", "gloo").End();

        Assert.That(Launched.Output, Does.Contain("Z step=5/5 loss=1.00000").And.Not.Contain('\u001b'));
    }

    [Test]
    public void Json_output_is_one_object_a_line_and_nothing_else()
    {
        Launched.Start("done", "--backend", "gloo", "--ui", "json").End();

        var lines = Launched.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement).ToList();
        Assert.That(lines[0].GetProperty("type").GetString(), Is.EqualTo("start"));
        Assert.That(lines[^1].GetProperty("type").GetString(), Is.EqualTo("end"));
        Assert.That(lines[^1].GetProperty("exit_code").GetInt32(), Is.Zero);
        var steps = lines.Where(line => line.GetProperty("type").GetString() == "metrics").Select(line => line.GetProperty("step").GetInt32());
        Assert.That(steps, Is.EqualTo(new[] { 1, 2, 3, 4, 5 }));
        Assert.That(Launched.Error, Does.Contain("rank(s) on this machine"), "people read standard error");
    }

    [Test]
    public void Failure_report_fits_one_screen_without_colours_or_stack()
    {
        Launched.Start("throw@0", "--nodes", "2", "--backend", "gloo").End();

        Assert.That(Launched.Error, Does.Match("(?m)^✗ train failed after "));
        Assert.That(Launched.Error.Split('\n'), Has.Length.LessThan(24).And.All.Length.LessThan(180));
        Assert.That(Launched.Error, Does.Not.Contain('\u001b'));
    }

    [TestCase("train"), TestCase("verify")]
    public void Options_before_the_command_are_refused(string command)
    {
        var code = Launched.StartBare("done", "--nodes", "4", command, "--config", Launched.ConfigFile).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("--nodes before the command").And.Contain($"launch {command} --nodes"));
    }

    [Test]
    public void Unknown_option_is_refused_with_the_nearest_one()
    {
        var code = Launched.StartBare("done", "--nodez", "4").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error + Launched.Output, Does.Contain("--nodez").And.Contain("--nodes").And.Contain("launch --help"));
        Assert.That(Launched.Error.Split('\n'), Has.Length.LessThan(12));
    }

    [TestCase("--nodes", "0"), TestCase("--backend", "ucx"), TestCase("--ui", "gui"), TestCase("--nodes", "four")]
    public void Impossible_value_is_refused_before_anything_starts(string option, string value)
    {
        var code = Launched.Start("done", option, value).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain(value).Or.Contain("at least 1"));
        Assert.That(Directory.Exists(Launched.Folder.Path), Is.False);
    }

    [Test]
    public void All_faults_of_a_configuration_are_told_at_once_before_any_rank_starts()
    {
        var code = Launched.Start("done", "--nodes", "3", "--set", "model.sequence_length=100001").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("expert").And.Contain("model.sequence_length"));
        Assert.That(Launched.Error, Does.Not.Contain("   at "));
        Assert.That(Directory.Exists(Launched.Folder.Path), Is.False);
    }

    [Test]
    public void Help_ends_with_examples([Values("train", "sweep", "verify", "data prepare", "data inspect", "config show", "schedule show", "schedule refine", "doctor", "bench", "bench step", "bench dispatch", "slurm render", "slurm submit")] string command)
    {
        var code = Launched.StartBare("done", [.. command.Split(' '), "--help"]).End();

        Assert.That(code, Is.Zero);
        Assert.That(Launched.Output, Does.Contain("Examples:").And.Contain($"launch {(command == "train" ? "--nodes" : command)}"));
    }
}
