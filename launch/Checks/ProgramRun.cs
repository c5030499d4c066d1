using System.Diagnostics;

namespace Moe.Launch.Checks;

/// <summary>A program that was run to its end, or to its time limit.</summary>
/// <param name="ExitCode">Null where it was ended at the limit.</param>
/// <param name="Output">Its standard output.</param>
/// <param name="Error">Its standard error.</param>
/// <param name="Elapsed">From start to end.</param>
internal sealed record ProgramRun(int? ExitCode, string Output, string Error, TimeSpan Elapsed)
{
    /// <summary>Whether it ended by itself with 0.</summary>
    public bool Succeeded => ExitCode == 0;

    /// <summary>The first line that it wrote, to whatever stream; empty where it wrote none.</summary>
    public string FirstLine => (Output.Length > 0 ? Output : Error).Split('\n', 2)[0].Trim();

    /// <summary>Why it did not succeed, in a few words.</summary>
    public string Trouble => ExitCode is null
        ? $"no answer within {Elapsed.TotalSeconds:0} s"
        : $"exit code {ExitCode}{(Error.Trim() is { Length: > 0 } error ? $": {error.Split('\n')[0].Trim()}" : "")}";

    /// <summary>Runs a program without input; at the limit it is ended with all that it started.</summary>
    /// <param name="path">The program.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="limit">Longest time.</param>
    public static ProgramRun Of(string path, IEnumerable<string> arguments, TimeSpan limit)
    {
        var clock = Stopwatch.StartNew();
        using var process = Process.Start(new ProcessStartInfo(path, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true })!;
        process.StandardInput.Close();
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        var ended = process.WaitForExit(limit);
        if (!ended)
        {
            process.Kill(entireProcessTree: true);
        }

        // What outlives the program may hold its streams open.
        Task.WaitAll([output, error], TimeSpan.FromSeconds(1));
        return new ProgramRun(ended ? process.ExitCode : null, Read(output), Read(error), clock.Elapsed);
    }

    private static string Read(Task<string> text) => text.IsCompletedSuccessfully ? text.Result : "";
}
