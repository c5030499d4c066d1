using System.Diagnostics;
using Moe.Distributed;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>Parts of work that take longer than a collective may. Rank 1 is the slow one, or the one to blame.</summary>
internal static class LongWorkScenarios
{
    public const int Culprit = 1;

    public static void OneIsSlow(ProcessGroup world)
    {
        var all = world.GatherAfter(() =>
        {
            Thread.Sleep(world.Rank == Culprit ? world.Timeout * 2.5 : TimeSpan.Zero);
            return [(byte)world.Rank, .. new byte[world.Rank]];
        });
        Assert.That(all.Select(bytes => (int)bytes[0]), Is.EqualTo(Enumerable.Range(0, world.Size)));
        Assert.That(all.Select(bytes => bytes.Length), Is.EqualTo(Enumerable.Range(1, world.Size)));
    }

    public static void OneDies(ProcessGroup world) => world.GatherAfter(() =>
    {
        if (world.Rank == Culprit)
        {
            Process.GetCurrentProcess().Kill();
        }

        Thread.Sleep(TimeSpan.FromMinutes(2));
        return [];
    });

    public static void OneThrows(ProcessGroup world) => world.GatherAfter(() =>
    {
        if (world.Rank == Culprit)
        {
            throw new InvalidTimeZoneException("on purpose");
        }

        Thread.Sleep(TimeSpan.FromMinutes(2));
        return [];
    });
}
