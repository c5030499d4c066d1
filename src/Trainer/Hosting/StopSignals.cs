using System.Runtime.InteropServices;

namespace Moe.Training.Hosting;

/// <summary>Listens to SIGINT, SIGTERM and SIGUSR1: the first of them asks to stop, every later one to leave at once.</summary>
/// <remarks>SIGUSR1 is what Slurm sends ahead of a time limit (<c>--signal=B:USR1@120</c>); preemption sends SIGTERM.</remarks>
public sealed class StopSignals : IDisposable
{
    // Raw number on Linux; .NET has no name for it but passes positive numbers through.
    private const PosixSignal UserSignal1 = (PosixSignal)10;

    private readonly PosixSignalRegistration[] _registrations;
    private int _received;

    /// <param name="stop">Called once with the name of the first signal; it must return soon.</param>
    /// <param name="leave">Called with the name and the number of each later signal.</param>
    public StopSignals(Action<string> stop, Action<string, int> leave)
    {
        _registrations = [.. new[] { (PosixSignal.SIGINT, 2), (PosixSignal.SIGTERM, 15), (UserSignal1, 10) }
            .Select(signal => PosixSignalRegistration.Create(signal.Item1, context =>
            {
                context.Cancel = true; // the default action would end the process
                var name = signal.Item1 == UserSignal1 ? "SIGUSR1" : signal.Item1.ToString();
                if (Interlocked.Increment(ref _received) == 1)
                {
                    stop(name);
                }
                else
                {
                    leave(name, signal.Item2);
                }
            }))];
    }

    /// <summary>Gives the signals their default action back.</summary>
    public void Dispose() => Array.ForEach(_registrations, registration => registration.Dispose());
}
