using System.CommandLine;
using System.CommandLine.Invocation;
using Moe.Data;
using Moe.Launch.Commands;
using Moe.Torch;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Launch;

/// <summary>From the words of the command line to the exit code.</summary>
internal static class LaunchProgram
{
    /// <summary>Parses and carries out a command; what goes wrong is said on one screen.</summary>
    /// <returns>The exit code, see <see cref="ExitCodes"/>.</returns>
    public static async Task<int> RunAsync(string[] arguments, LaunchHost host)
    {
        var result = CommandTree.Build(host).Parse(arguments);
        if (result.Action is ParseErrorAction)
        {
            UsageErrors.Write(host.Screen, result);
            return ExitCodes.Usage;
        }

        if (UsageErrors.Misplaced(result) is { Count: > 0 } misplaced)
        {
            UsageErrors.WriteMisplaced(host.Screen, result, misplaced);
            return ExitCodes.Usage;
        }

        var configuration = new InvocationConfiguration
        {
            Output = host.Screen.Output,
            Error = host.Screen.Error,
            EnableDefaultExceptionHandler = false,
            ProcessTerminationTimeout = null, // signals are ours, see StopSignals
        };
        try
        {
            return await result.InvokeAsync(configuration).ConfigureAwait(false);
        }
        catch (ConfigException e)
        {
            host.Screen.WriteHeadline(e.Faults.Count == 1 ? "the configuration cannot be run" : $"the configuration cannot be run: {e.Faults.Count} faults");
            foreach (var fault in e.Faults)
            {
                host.Screen.Error.WriteLine($"  {fault}");
            }

            return ExitCodes.Usage;
        }
        catch (CheckpointException e)
        {
            host.Screen.WriteHeadline(e.Message);
            return ExitCodes.Checkpoint;
        }
        catch (NativeLibraryException e)
        {
            host.Screen.WriteHeadline(e.Message);
            return ExitCodes.Preflight;
        }
        catch (DataException e)
        {
            host.Screen.WriteHeadline(e.Message);
            return ExitCodes.Usage;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            host.Screen.WriteHeadline(e.Message);
            host.Screen.WriteParagraph("try", "launch doctor   (disk space, write permission)");
            return ExitCodes.Preflight;
        }
        catch (LaunchException e)
        {
            host.Screen.WriteHeadline(e.Message);
            host.Screen.WriteParagraph("try", e.Remedy);
            return e.ExitCode;
        }
    }
}
