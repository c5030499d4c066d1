using System.CommandLine;
using System.CommandLine.Invocation;
using System.Net.Sockets;
using Moe.Data;
using Moe.Distributed;
using Moe.Launch.Checks;
using Moe.Launch.Commands;
using Moe.Launch.Terminal;
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
        DiskFault.SurviveFileSizeLimit();
        var result = CommandTree.Build(host).Parse(arguments);
        if (CommandTree.VerbosityOf(result) is not Verbosity.Normal and var verbosity)
        {
            // Commands print where their tree was told to.
            host = host with { Screen = host.Screen with { Verbosity = verbosity } };
            result = CommandTree.Build(host).Parse(arguments);
        }

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
        catch (Exception e) when (e is SocketException or CommunicationException || PortFault.IsOne(e))
        {
            host.Screen.WriteHeadline(PortFault.IsOne(e) ? $"a port is in use: {e.Message}" : e.Message);
            host.Screen.WriteParagraph("try", PortFault.IsOne(e) ? "another port; ss -ltnp names the program that has this one" : "launch doctor");
            WriteStack(host.Screen, e);
            return ExitCodes.Preflight;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            host.Screen.WriteHeadline(e.Message);
            host.Screen.WriteParagraph("try", DiskFault.Remedy(e) ?? "launch doctor   (disk space, write permission)");
            WriteStack(host.Screen, e);
            return ExitCodes.Preflight;
        }
        catch (LaunchException e)
        {
            host.Screen.WriteHeadline(e.Message);
            host.Screen.WriteParagraph("try", e.Remedy);
            return e.ExitCode;
        }
#pragma warning disable CA1031 // The one place where the launcher's own mistakes end: a message and a code, not the runtime's crash.
        catch (Exception e)
#pragma warning restore CA1031
        {
            host.Screen.WriteHeadline($"the launcher failed: {e.GetType().Name}: {e.Message}");
            host.Screen.WriteParagraph("try", "the same command with --verbosity d, whose stack trace belongs into a report of this fault");
            WriteStack(host.Screen, e);
            return ExitCodes.Failed;
        }
    }

    private static void WriteStack(Screen screen, Exception e)
    {
        if (screen.Verbosity == Verbosity.Detailed)
        {
            FailureReport.WriteStack(screen, e.ToString());
        }
    }
}
