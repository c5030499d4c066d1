using System.CommandLine;
using System.Runtime.InteropServices;
using Moe.Launch.Checks;
using Moe.Launch.Runs;
using Moe.Launch.Terminal;
using Moe.Training.Hosting;

namespace Moe.Launch.Commands;

/// <summary><c>launch doctor</c>: what is installed and works, what is not, and what mends it.</summary>
internal static class DoctorCommand
{
    public static Command Create(LaunchHost host)
    {
        var command = new Command("doctor", "Says what is installed and works, what is not, and what mends it.");
        var hosts = new Option<string?>("--hosts") { Description = "Other machines of the job, to be reached by ssh. Default in a Slurm job: its nodes.", HelpName = "a,b,..." };
        var perNode = OptionValues.OptionalWhole("--procs-per-node", "Ranks that each machine is to have.", 1, int.MaxValue);
        var ui = OptionValues.Choice("--ui", "plain: for people; json: one object.", RunViews.Plain, RunViews.Json);
        var answer = new Option<int?>("--answer") { Description = "The other end of --hosts.", Hidden = true };
        foreach (var option in new Option[] { hosts, perNode, ui, answer })
        {
            command.Options.Add(option);
        }

        command.SetAction(result =>
        {
            if (result.GetValue(answer) is { } seconds)
            {
                AnswerCommand.Run(host.Screen.Output, TimeSpan.FromSeconds(Math.Clamp(seconds, 1, 60)));
                return ExitCodes.Done;
            }

            var context = new DoctorContext(
                host,
                Repository.RunsFolder(host.WorkingDirectory),
                result.GetValue(hosts)?.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries) ?? [],
                result.GetValue(perNode));
            return Report(Doctor.Examine(Doctor.Checks, context), host, result.GetValue(ui) == RunViews.Json);
        });
        return command.WithExamples(
            "launch doctor",
            "launch doctor --hosts node1,node2 --procs-per-node 8",
            "launch doctor --ui json | jq '.findings[] | select(.verdict == \"fail\")'",
            "",
            "Exit codes: 0 nothing fails (warnings may), 2 something does.");
    }

    /// <summary>Prints what was found, each line as it comes, and all of it once more to copy.</summary>
    internal static int Report(IEnumerable<Diagnosis> diagnoses, LaunchHost host, bool asJson)
    {
        var all = new List<(string Check, Finding Finding)>();
        foreach (var diagnosis in diagnoses)
        {
            foreach (var finding in diagnosis.Findings)
            {
                all.Add((diagnosis.Check, finding));
                if (!asJson)
                {
                    host.Screen.Output.WriteLine($"{Line(finding)}{(finding.Remedy is null ? "" : $"  ->  {finding.Remedy}")}");
                }
            }
        }

        var fails = all.Any(pair => pair.Finding.Verdict == Verdict.Fails);
        if (asJson)
        {
            WriteJson(host.Screen.Output, all, fails);
        }
        else
        {
            WriteBlock(host.Screen.Output, all);
        }

        return fails ? ExitCodes.Preflight : ExitCodes.Done;
    }

    private static void WriteBlock(TextWriter output, List<(string Check, Finding Finding)> all)
    {
        output.WriteLine();
        output.WriteLine("copy from here into an issue:");
        output.WriteLine("```");
        output.WriteLine($"launch {typeof(DoctorCommand).Assembly.GetName().Version} on {RuntimeInformation.OSDescription}, {RuntimeInformation.OSArchitecture}");
        foreach (var (_, finding) in all.Where(pair => pair.Finding.Verdict != Verdict.Skipped))
        {
            output.WriteLine(Line(finding));
        }

        output.WriteLine("```");
    }

    private static void WriteJson(TextWriter output, List<(string Check, Finding Finding)> all, bool fails) => JsonView.WriteObject(output, json =>
    {
        json.WriteBoolean("ok", !fails);
        json.WriteStartArray("findings");
        foreach (var (check, finding) in all)
        {
            json.WriteStartObject();
            json.WriteString("check", check);
            json.WriteString("verdict", Word(finding.Verdict));
            json.WriteString("text", finding.Text);
            json.WriteString("remedy", finding.Remedy);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    });

    private static string Line(Finding finding) => $"{Word(finding.Verdict),-5} {finding.Text}";

    private static string Word(Verdict verdict) => verdict switch
    {
        Verdict.Works => "ok",
        Verdict.Warns => "warn",
        Verdict.Skipped => "skip",
        _ => "fail",
    };
}
