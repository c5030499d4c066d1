using System.CommandLine;
using Moe.Training.Hosting;
using Moe.Training.Reports;

namespace Moe.Launch.Commands;

/// <summary><c>launch report</c>: one page that shows a run, or several beside each other, from disk and without a network.</summary>
internal static class ReportCommand
{
    public static Command Create(LaunchHost host)
    {
        var run = new Option<string>("--run") { Description = "Folder of the run.", HelpName = "DIR", Required = true };
        var compare = new Option<string[]>("--compare")
        {
            Description = $"Folders of up to {Report.MostRuns - 1} runs to draw beside it.",
            HelpName = "DIR",
            AllowMultipleArgumentsPerToken = true,
            DefaultValueFactory = _ => [],
        };
        var output = new Option<string?>("--output", "-o") { Description = "The file to write. Default: report.html in the run's folder, compare.html with --compare.", HelpName = "FILE" };
        var command = new Command("report", "Writes one self-contained page of a run: curves, expert load, ranks, events, configuration.");
        command.Options.Add(run);
        command.Options.Add(compare);
        command.Options.Add(output);
        command.SetAction(result =>
        {
            List<RunFolder> folders = [.. result.GetValue(compare)!.Prepend(result.GetValue(run)!).Select(path => RunArgument.Find(path, host, "run.json", "metrics.jsonl"))];
            if (folders.Count > Report.MostRuns)
            {
                throw new LaunchException(ExitCodes.Usage, $"a report compares at most {Report.MostRuns} runs, not {folders.Count}", $"at most {Report.MostRuns - 1} folders after --compare");
            }

            var file = result.GetValue(output) is { } named
                ? Path.GetFullPath(named, host.WorkingDirectory)
                : folders.Count == 1 ? folders[0].ReportFile : Path.Combine(folders[0].Path, "compare.html");
            Report.Write(folders, file);
            host.Screen.Output.WriteLine(host.Shorten(file));
            return ExitCodes.Done;
        });
        return command.WithExamples(
            "launch report --run runs/mine                                  writes runs/mine/report.html",
            "launch report --run runs/a --compare runs/b runs/c -o abc.html");
    }
}
