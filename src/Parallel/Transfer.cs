namespace Moe.Distributed;

/// <summary>Communication that a backend has started. Freed by itself once it is done.</summary>
internal abstract class Transfer
{
    /// <summary>A transfer that needed no waiting.</summary>
    public static Transfer Done { get; } = new Finished();

    /// <summary>Whether its own marks on the device tell when it ran: the host goes on before it is done.</summary>
    public virtual bool IsTimedByDevice => false;

    /// <summary>Drives the transfer on without waiting.</summary>
    /// <returns>Whether it is done; after that it is not asked again.</returns>
    /// <exception cref="TransferException">The transport failed.</exception>
    public abstract bool Test();

    /// <summary>Waits until the transfer is done.</summary>
    /// <exception cref="TransferException">The transport failed, or <paramref name="timeout"/> passed.</exception>
    public abstract void Wait(TimeSpan timeout);

    /// <summary><see cref="Wait"/> until the host may read the results: where a transfer runs on a device, it alone may be ahead of the host.</summary>
    /// <exception cref="TransferException">The transport failed, or <paramref name="timeout"/> passed.</exception>
    public virtual void WaitOnHost(TimeSpan timeout) => Wait(timeout);

    private sealed class Finished : Transfer
    {
        public override bool Test() => true;

        public override void Wait(TimeSpan timeout)
        {
        }
    }
}

/// <summary>What a transport says of a transfer that failed; <see cref="Work"/> adds whose and where.</summary>
/// <param name="message">For a time-out, what was open; may be empty.</param>
internal sealed class TransferException(string message, bool timedOut = false) : Exception(message)
{
    public bool TimedOut => timedOut;

    /// <summary>The failure of another operation that this one went down with; null where it failed by itself.</summary>
    public CommunicationException? Cause { get; init; }
}
