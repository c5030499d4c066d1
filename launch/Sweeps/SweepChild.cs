using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Moe.Launch.Runs;
using Moe.Launch.Supervision;

namespace Moe.Launch.Sweeps;

/// <summary>The launcher of one point: a process of its own, so that whatever becomes of it costs the other points nothing.</summary>
/// <remarks>
/// It leads a session, which keeps the terminal's Ctrl-C from it; the sweep tells it. It speaks <c>--ui json</c> on standard output. Its
/// standard input is a pipe that ends with the sweep's launcher, whereupon it stops by itself (<see cref="ParentWatch"/>).
/// </remarks>
internal sealed class SweepChild : IDisposable
{
    private const int Interrupt = 2;

    private readonly Process _process;

    private SweepChild(Process process) => _process = process;

    /// <summary>Starts the launcher of a point.</summary>
    /// <param name="host">Says which program that is.</param>
    /// <param name="arguments">After <c>train</c>.</param>
    /// <param name="environment">Variables that differ from ours.</param>
    public static SweepChild Start(LaunchHost host, IReadOnlyList<string> arguments, IReadOnlyDictionary<string, string?> environment)
    {
        var start = new ProcessStartInfo("setsid", [host.Self.FileName, .. host.Self.Arguments, "train", .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = host.WorkingDirectory,
        };
        start.Environment[ParentWatch.Variable] = "1";
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        return new SweepChild(Process.Start(start)!);
    }

    /// <summary>Reads what it says until it has ended.</summary>
    /// <param name="log">File that takes its standard error.</param>
    /// <param name="said">Told each object of standard output.</param>
    /// <returns>Its exit code, 128 + n after signal n.</returns>
    public async Task<int> RunAsync(string log, Action<JsonElement> said)
    {
        var words = CopyAsync(_process.StandardError, log);
        while (await _process.StandardOutput.ReadLineAsync().ConfigureAwait(false) is { } line)
        {
            if (JsonLine.Parse(line) is { } message)
            {
                said(message);
            }
        }

        await _process.WaitForExitAsync().ConfigureAwait(false);
        await words.ConfigureAwait(false);
        return _process.ExitCode;
    }

    /// <summary>Asks it to save and stop; a second time makes it leave at once.</summary>
    public void Interrupted() => ProcessSession.Signal(_process.Id, Interrupt);

    /// <summary>Ends it; its ranks see that and leave.</summary>
    public void Kill() => ProcessSession.Signal(_process.Id, ProcessSession.Kill);

    public void Dispose() => _process.Dispose();

    // What cannot be written is lost, but read all the same: a child whose output nobody takes would block.
    private static async Task CopyAsync(StreamReader from, string log)
    {
        var text = await from.ReadToEndAsync().ConfigureAwait(false);
        try
        {
            if (text.Length > 0)
            {
                await File.AppendAllTextAsync(log, string.Create(CultureInfo.InvariantCulture, $"{DateTime.UtcNow:u}\n") + text).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The point's result says how it ended.
        }
    }
}
