using System.Globalization;
using System.Runtime.InteropServices;

namespace Moe.Training.Hosting;

/// <summary>Listens to SIGINT, SIGTERM, SIGUSR1 and SIGHUP: the first of them asks to stop, every later one to leave at once.</summary>
/// <remarks>
/// A terminal that closes sends SIGHUP, often twice; it never makes a process leave, and one that <c>nohup</c> started does not hear it. SIGUSR1 is what
/// Slurm sends ahead of a time limit (<c>--signal=B:USR1@120</c>); preemption sends SIGTERM. Under Slurm these two say the same thing as often as they
/// come: srun passes on what each task also gets from Slurm itself, and a second request must not cost the checkpoint that the first one asked for.
/// Slurm has SIGKILL for the end of its patience.
/// </remarks>
public sealed class StopSignals : IDisposable
{
    // Raw number on Linux; .NET has no name for it but passes positive numbers through.
    private const PosixSignal UserSignal1 = (PosixSignal)10;

    private const int HangUp = 1;

    private readonly PosixSignalRegistration[] _registrations;
    private int _received;

    /// <param name="stop">Called once with the name of the first signal; it must return soon.</param>
    /// <param name="leave">Called with the name and the number of each later signal.</param>
    /// <param name="isSlurmTask">Whether Slurm may repeat its signals; then only SIGINT makes the process leave.</param>
    public StopSignals(Action<string> stop, Action<string, int> leave, bool isSlurmTask = false)
    {
        _registrations = [.. new[] { (PosixSignal.SIGINT, 2), (PosixSignal.SIGTERM, 15), (UserSignal1, 10), (PosixSignal.SIGHUP, HangUp) }
            .Where(signal => signal.Item2 != HangUp || !IsIgnored(HangUp)) // nohup
            .Select(signal => PosixSignalRegistration.Create(signal.Item1, context =>
            {
                context.Cancel = true; // the default action would end the process
                var name = signal.Item1 == UserSignal1 ? "SIGUSR1" : signal.Item1.ToString();
                if (Interlocked.Increment(ref _received) == 1)
                {
                    stop(name);
                }
                else if (signal.Item2 != HangUp && (!isSlurmTask || signal.Item1 == PosixSignal.SIGINT)) // shell and kernel may both send a SIGHUP
                {
                    leave(name, signal.Item2);
                }
            }))];
    }

    // The mask of signals whose action is to be ignored, bit n - 1 for signal n.
    private static bool IsIgnored(int signal)
    {
        var mask = File.ReadLines("/proc/self/status").FirstOrDefault(line => line.StartsWith("SigIgn:", StringComparison.Ordinal))?["SigIgn:".Length..].Trim();
        return mask is not null && (ulong.Parse(mask, NumberStyles.HexNumber, CultureInfo.InvariantCulture) >> (signal - 1) & 1) == 1;
    }

    /// <summary>Gives the signals their default action back.</summary>
    public void Dispose() => Array.ForEach(_registrations, registration => registration.Dispose());
}
