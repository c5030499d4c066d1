using System.Diagnostics;
using Moe.Launch.Supervision;
using Moe.Training.Hosting;

namespace Moe.Launch.Hosts;

/// <summary>Whether each machine of a host list can be reached, has the program, and sees this machine's files, before anything is started.</summary>
internal static class HostCheck
{
    private const int NoProgram = 41, NoFile = 42;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    /// <summary>Asks all hosts at once.</summary>
    /// <param name="hosts">The host list.</param>
    /// <param name="program">What is to run there.</param>
    /// <param name="runFolder">The run folder, which need not exist yet.</param>
    /// <exception cref="LaunchException">Names every host that will not do, and why.</exception>
    public static async Task DemandAsync(HostList hosts, RankProgram program, string runFolder)
    {
        using var probe = new Probe(runFolder);
        var assembly = program.Arguments.FirstOrDefault(argument => argument.EndsWith(".dll", StringComparison.Ordinal)) ?? program.FileName;
        var script = $"test -x {ShellWords.Quote(program.FileName)} && test -r {ShellWords.Quote(assembly)} || exit {NoProgram}; test -e {ShellWords.Quote(probe.Path)} || exit {NoFile}";
        var answers = await Task.WhenAll(hosts.Machines.Select(host => AskAsync(hosts.Ssh, host, script))).ConfigureAwait(false);
        var faults = answers.Where(answer => answer.Code != 0).Select(answer => answer.Code switch
        {
            NoProgram => $"host {answer.Host} has no {assembly}, or no .NET at {program.FileName}",
            NoFile => $"host {answer.Host} does not see the folder {Path.GetDirectoryName(probe.Path)}: runs on several machines need a shared file system",
            _ => $"host {answer.Host} cannot be reached: {answer.Words}",
        }).ToList();
        if (faults.Count > 0)
        {
            var first = answers.First(answer => answer.Code != 0).Host;
            throw new LaunchException(ExitCodes.Preflight, string.Join("; ", faults), $"{ShellWords.Join([.. hosts.Ssh, first])} true   by hand, or leave the host out");
        }
    }

    // The code of the script, or that of ssh with its last words.
    private static async Task<(string Host, int Code, string Words)> AskAsync(IReadOnlyList<string> ssh, string host, string script)
    {
        using var process = Start(new ProcessStartInfo(ssh[0], [.. ssh.Skip(1), host, ShellWords.Join(["exec", "sh", "-c", script])])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        });
        process.StandardInput.Close();
        _ = process.StandardOutput.ReadToEndAsync();
        var said = process.StandardError.ReadToEndAsync();
        using var patience = new CancellationTokenSource(Patience);
        try
        {
            await process.WaitForExitAsync(patience.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            return (host, -1, $"no answer within {Patience.TotalSeconds:0} s");
        }

        var lines = (await said.ConfigureAwait(false)).Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        return (host, process.ExitCode, lines.LastOrDefault() ?? $"exit code {process.ExitCode} of {ssh[0]}");
    }

    private static Process Start(ProcessStartInfo start)
    {
        try
        {
            return Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new LaunchException(ExitCodes.Preflight, $"'{start.FileName}' cannot be run: {e.Message}", "--ssh COMMAND, or MOE_SSH");
        }
    }

    /// <summary>A file in the nearest folder above the run folder that exists: whoever sees it shares the file system.</summary>
    private sealed class Probe : IDisposable
    {
        public Probe(string runFolder)
        {
            var folder = System.IO.Path.GetFullPath(runFolder);
            while (!Directory.Exists(folder))
            {
                folder = System.IO.Path.GetDirectoryName(folder)!;
            }

            Path = System.IO.Path.Combine(folder, $".probe-{Environment.MachineName}-{Environment.ProcessId}");
            File.WriteAllText(Path, "");
        }

        public string Path { get; }

        public void Dispose() => File.Delete(Path);
    }
}
