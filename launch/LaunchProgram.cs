using System.CommandLine;
using System.Net.Sockets;
using Moe.Data;
using Moe.Distributed;
using Moe.Launch.Checks;
using Moe.Launch.Commands;
using Moe.Launch.Supervision;
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
        RankVariables.WaitAsRanksDo();
        var result = CommandTree.Build(host).Parse(arguments);
        if (CommandTree.VerbosityOf(result) is not Verbosity.Normal and var verbosity)
        {
            // Commands print where their tree was told to.
            host = host with { Screen = host.Screen with { Verbosity = verbosity } };
            result = CommandTree.Build(host).Parse(arguments);
        }

        if (UsageErrors.Any(result))
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
#pragma warning disable CA1031 // The one place where the launcher's own mistakes end: a message and a code, not the runtime's crash.
        catch (Exception e)
#pragma warning restore CA1031
        {
            return Report(host.Screen, e);
        }
    }

    private static int Report(Screen screen, Exception failure)
    {
        switch (failure)
        {
            case ConfigException e:
                screen.WriteHeadline(e.Faults.Count == 1 ? "the configuration cannot be run" : $"the configuration cannot be run: {e.Faults.Count} faults");
                foreach (var fault in e.Faults)
                {
                    screen.Error.WriteLine($"  {fault}");
                }

                return ExitCodes.Usage;
            case LaunchException e:
                return Say(e.Message, e.Remedy, e.ExitCode);
            case CheckpointException:
                return Say(failure.Message, null, ExitCodes.Checkpoint);
            case NativeLibraryException:
                return Say(failure.Message, null, ExitCodes.Preflight);
            case DataException:
                return Say(failure.Message, null, ExitCodes.Usage);
            case var _ when PortFault.IsOne(failure):
                Say($"a port is in use: {failure.Message}", "another port; ss -ltnp names the program that has this one", ExitCodes.Preflight);
                break;
            case SocketException or CommunicationException:
                Say(failure.Message, "launch doctor", ExitCodes.Preflight);
                break;
            case IOException or UnauthorizedAccessException:
                Say(failure.Message, DiskFault.Remedy(failure) ?? "launch doctor   (disk space, write permission)", ExitCodes.Preflight);
                break;
            default:
                Say(
                    $"the launcher failed: {failure.GetType().Name}: {failure.Message}",
                    "the same command with --verbosity d, whose stack trace belongs into a report of this fault",
                    ExitCodes.Failed);
                WriteStack(screen, failure);
                return ExitCodes.Failed;
        }

        WriteStack(screen, failure);
        return ExitCodes.Preflight;

        int Say(string what, string? remedy, int exitCode)
        {
            screen.WriteHeadline(what);
            if (remedy is not null)
            {
                screen.WriteParagraph("try", remedy);
            }

            return exitCode;
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
