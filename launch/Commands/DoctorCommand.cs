using System.CommandLine;
using Moe.Launch.Checks;
using Moe.Launch.Runs;
using Moe.Training.Hosting;

namespace Moe.Launch.Commands;

/// <summary><c>launch doctor</c>: what is installed and works, what is not, and the command that mends it.</summary>
internal static class DoctorCommand
{
    public static Command Create(LaunchHost host)
    {
        var command = new Command("doctor", "Says what is installed and works, what is not, and the command that mends it.");
        command.SetAction(_ =>
        {
            var findings = Doctor.Examine(host, Repository.RunsFolder(host.WorkingDirectory));
            foreach (var finding in findings)
            {
                var remedy = finding.Remedy is null ? "" : $"  ->  {finding.Remedy}";
                host.Screen.Output.WriteLine($"{Word(finding.Verdict),-5} {finding.Text}{remedy}");
            }

            return findings.Any(finding => finding.Verdict == Verdict.Fails) ? ExitCodes.Preflight : ExitCodes.Done;
        });
        return command.WithExamples("launch doctor", "", "Exit codes: 0 nothing fails (warnings may), 2 something does.");
    }

    private static string Word(Verdict verdict) => verdict switch
    {
        Verdict.Works => "ok",
        Verdict.Warns => "warn",
        _ => "fail",
    };
}
