using System.Diagnostics;
using Moe.Distributed;
using Moe.Distributed.Mpi;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>Ranks that do what ranks should not, for a world of 4, under NCCL of 2, of which rank 1 is the one to blame.</summary>
internal static class FailureScenarios
{
    public const int Culprit = 1;

    // Rank r sends r + 1 rows to everyone.
    public static void NeverComes(ProcessGroup world)
    {
        SetTrace(world);
        if (world.Rank == Culprit)
        {
            Thread.Sleep(world.Timeout * 3);
            return;
        }

        using var scope = new TensorScope();
        long[] sent = [.. Enumerable.Repeat(world.Rank + 1L, world.Size)], received = [.. Enumerable.Range(1, world.Size)];
        var output = Tensor.Zeros([received.Sum(), 2]).Here();
        var clock = Stopwatch.StartNew();
        try
        {
            world.AllToAll(output, Tensor.Zeros([sent.Sum(), 2]).Here(), received, sent);
        }
        finally
        {
            Console.WriteLine(FormattableString.Invariant($"after {clock.Elapsed.TotalSeconds:0.00} s"));
        }
    }

    public static void NeverComesWithSeveralInFlight(ProcessGroup world)
    {
        using var scope = new TensorScope();
        using var other = world.CreateGroup([.. Enumerable.Range(0, world.Size)], "other");
        if (world.Rank == Culprit)
        {
            Thread.Sleep(world.Timeout * 3);
            return;
        }

        var values = Enumerable.Range(0, 4).Select(_ => Tensor.Zeros([50_000]).Here()).ToArray();
        var works = values.Select((tensor, i) => (i % 2 == 0 ? world : other).AllReduceAsync(tensor)).ToArray();
        works[0].WaitOnHost();
    }

    public static void DiesInAnAllToAll(ProcessGroup world)
    {
        SetTrace(world);
        using var scope = new TensorScope();
        long[] rows = [.. Enumerable.Repeat(65_536L, world.Size)];
        var (output, input) = (Tensor.Zeros([rows.Sum()]).Here(), Tensor.Zeros([rows.Sum()]).Here());
        for (var i = 0; ; i++)
        {
            var work = world.AllToAllAsync(output, input, rows, rows);
            if (i == 20 && world.Rank == Culprit)
            {
                Process.GetCurrentProcess().Kill();
            }

            work.WaitOnHost();
        }
    }

    public static void ThrowsInTheMiddle(ProcessGroup world)
    {
        using var scope = new TensorScope();
        using var group = world.CreateGroup([.. Enumerable.Range(0, world.Size)], "inner");
        var started = group.AllReduceAsync(Tensor.Zeros([100_000]).Here());
        if (world.Rank == Culprit)
        {
            throw new InvalidTimeZoneException("on purpose");
        }

        started.WaitOnHost();
        world.Barrier();
    }

    // Nobody else calls anything: the operation that is under way can only end by its time-out, for which this rank must not wait.
    public static void ThrowsWhileOthersAreBusy(ProcessGroup world)
    {
        using var group = world.CreateGroup([.. Enumerable.Range(0, world.Size)], "inner");
        if (world.Rank == Culprit)
        {
            using var scope = new TensorScope();
            group.AllReduceAsync(Tensor.Zeros([100_000]).Here());
            throw new InvalidTimeZoneException("on purpose");
        }

        Thread.Sleep(TimeSpan.FromSeconds(6));
        group.Barrier();
    }

    /// <param name="rows">What rank 0 expects from rank 1, and what that sends.</param>
    public static void SplitsDisagree(ProcessGroup world, string[] rows)
    {
        var (expected, given) = (long.Parse(rows[0]), long.Parse(rows[1]));
        using var scope = new TensorScope();
        long[] none = [0, 0, 0, 0];
        var (received, sent) = world.Rank switch
        {
            0 => ([0, expected, 0, 0], none),
            Culprit => (none, [given, 0, 0, 0]),
            _ => (none, none),
        };
        world.AllToAll(Tensor.Zeros([received.Sum()]), Tensor.Zeros([sent.Sum()]), received, sent);
        world.Barrier();
    }

    public static void NeverJoinsTheGroup(ProcessGroup world)
    {
        if (world.Rank == Culprit)
        {
            Thread.Sleep(world.Timeout * 3);
            return;
        }

        world.CreateGroup([.. Enumerable.Range(0, world.Size)], "late").Dispose();
    }

    public static void IsOfNoMoreUse(ProcessGroup world)
    {
        if (world.Rank == Culprit)
        {
            Thread.Sleep(world.Timeout * 2);
            return;
        }

        Assert.That(world.Barrier, Throws.TypeOf<CommunicationException>());
        Assert.That(world.Barrier, Throws.TypeOf<CommunicationException>().With.Message.Contains("of no more use since an earlier failure"));
        world.Dispose();
        Assert.That(world.Barrier, Throws.TypeOf<ObjectDisposedException>());
        throw new InvalidTimeZoneException("as expected");
    }

    public static void NullReferencesAreStillExceptions(ProcessGroup world)
    {
        string? nothing = world.Rank > 100 ? "" : null;
        Assert.That(() => nothing!.Length, Throws.TypeOf<NullReferenceException>());
    }

    public static void SendsInPieces(ProcessGroup world, string[] seed)
    {
        ((MpiProcessGroup)world).MessageLimit = 37;
        CollectiveScenarios.MovesRows(world, seed);
        var random = new Random(int.Parse(seed[0]));
        using var scope = new TensorScope();
        var values = RandomTensors.Random(random, DType.Int64, 5000);
        var expected = values.ToArray<long>();
        if (world.Rank != 2)
        {
            values.Zero_();
        }

        world.Broadcast(values, root: 2);
        Assert.That(values.ToArray<long>(), Is.EqualTo(expected));
    }

    private static void SetTrace(ProcessGroup world)
    {
        world.Trace.Step = 17;
        world.Trace.Layer = 3;
        world.Trace.Phase = "dispatch";
    }
}
