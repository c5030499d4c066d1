using System.Diagnostics;

namespace Moe.Distributed.Mpi;

/// <summary>Messages that MPI has under way.</summary>
/// <param name="handle">The native transfer, owned from here on.</param>
/// <param name="session">Whose other transfers go on while this one is waited for.</param>
/// <param name="members">World ranks of the group.</param>
internal sealed class MpiTransfer(nint handle, MpiSession session, int[] members) : Transfer
{
    // Peers that a message about a time-out names.
    private const int NamedPeers = 8;

    // How long the others rest while one is waited for.
    private static readonly TimeSpan Slice = TimeSpan.FromMilliseconds(1);

    public override bool Test()
    {
        MpiAbi.Check(MpiAbi.Test(handle, out var done));
        return done != 0 && Free();
    }

    public override void Wait(TimeSpan timeout)
    {
        var begin = Stopwatch.GetTimestamp();
        for (var left = timeout; !WaitAtMost(session.HasDriven && left > Slice ? Slice : left); left = timeout - Stopwatch.GetElapsedTime(begin))
        {
            if (left <= TimeSpan.Zero || !session.HasDriven)
            {
                throw new TransferException(OpenPeers(), timedOut: true);
            }

            session.Advance();
        }

        Free();
    }

    private static long Milliseconds(TimeSpan time) => Math.Max(0, (long)time.TotalMilliseconds);

    private bool WaitAtMost(TimeSpan time)
    {
        MpiAbi.Check(MpiAbi.Wait(handle, Milliseconds(time), out var done));
        return done != 0;
    }

    // A transfer that failed is never freed: MPI may still write through its requests.
    private bool Free()
    {
        MpiAbi.Check(MpiAbi.FreeTransfer(handle));
        return true;
    }

    private unsafe string OpenPeers()
    {
        var peers = stackalloc int[NamedPeers];
        MpiAbi.Check(MpiAbi.OpenPeers(handle, peers, NamedPeers, out var count));
        return count == 0 ? "" : $"open with rank {string.Join(", ", new Span<int>(peers, count).ToArray().Select(peer => members[peer]))}";
    }
}
