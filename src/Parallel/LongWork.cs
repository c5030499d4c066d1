using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Work of ranks outside of communication, such as reading and writing files, which may take longer than a collective may.</summary>
public static class LongWork
{
    // What ends within it costs one small exchange; where a time-out is short, several must fit in.
    private static readonly TimeSpan LongestRound = TimeSpan.FromSeconds(1);
    private const int RoundsOfTimeout = 4;

    /// <summary>Every member does its part and gets what all of them made. Every member calls this.</summary>
    /// <remarks>
    /// The parts run on threads of their own. As long as any of them does, all members meet in an exchange once a second: the group's time-out bounds
    /// how long a member is silent, and not how long it works.
    /// </remarks>
    /// <param name="group">Who takes part.</param>
    /// <param name="part">This member's, and what it tells the others; it starts no collective.</param>
    /// <param name="device">Whose tensors the part reads or writes.</param>
    /// <returns>One a member, by rank.</returns>
    /// <exception cref="CommunicationException">A member is gone, or hangs; this member's part may go on still.</exception>
    public static byte[][] GatherAfter(this ProcessGroup group, Func<byte[]> part, Device device = default)
    {
        var work = Task.Factory.StartNew(
            () =>
            {
                if (device.IsCuda)
                {
                    CudaRuntime.Use(device); // a thread begins on the first
                }

                return part();
            },
            CancellationToken.None,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default);
        var round = TimeSpan.FromTicks(Math.Min(LongestRound.Ticks, group.Timeout.Ticks / RoundsOfTimeout));
        byte[]? made;
        do
        {
            made = Task.WaitAny([work], round) == 0 ? work.GetAwaiter().GetResult() : null; // or throws what the part threw
        }
        while (group.AllReduce(made is null ? 1.0 : 0.0, ReduceOperation.Max) > 0);

        return group.GatherBytes(made!);
    }
}
