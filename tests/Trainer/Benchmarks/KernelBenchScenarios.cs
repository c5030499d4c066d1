using Moe.Distributed;
using Moe.Torch;
using Moe.Training.Benchmarks;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What the ranks of <see cref="SharedKernelBenchTests"/> do.</summary>
internal static class KernelBenchScenarios
{
    private static readonly string[] Exchanges = ["exchange of sizes", "exchange of rows", "exchange of sums"];

    public static void AllFamilies(ProcessGroup world)
    {
        using var mesh = new DeviceMesh(world, world.Size);
        var config = TinyRun.Config("nowhere");
        var reports = KernelBench.Names.ToDictionary(
            family => family, family => KernelBench.Run(family, config, mesh, Device.Cpu, warmup: 1, repeats: 2, ceilingSeconds: 0.01));
        foreach (var report in reports.Values)
        {
            KernelRows.AssertSound(report);
        }

        var exchanges = reports["dispatch"].Kernels.Where(kernel => kernel.Ceiling == "exchange").ToList();
        Assert.That(exchanges.Select(kernel => kernel.Name).Distinct(), Is.EquivalentTo(Exchanges));
        Assert.That(reports["optimizer"].Kernels.Where(kernel => kernel.Ceiling == "exchange").Select(kernel => kernel.Name), Is.EqualTo(["reduction of gradients", "sharing of weights"]));

        // Whichever experts the tokens chose, all ranks together have as many rows, and step as many weights, as one.
        Assert.That(Sum(world, KernelRows.Of(reports["experts"], "experts, gate_up", "forward").Operations), Is.EqualTo(2.0 * world.Size * 128 * 2 * 24 * 16));
        Assert.That(Sum(world, KernelRows.Of(reports["optimizer"], "step of sgd", "update").Bytes), Is.EqualTo(20.0 * 19792));

        // What one rank sends in forward, others receive; gradients travel the same way back.
        double Sent(string name, string direction) => Sum(world, KernelRows.Of(reports["dispatch"], name, direction).Bytes);
        Assert.That(Sent("exchange of sums", "forward"), Is.EqualTo(Sent("exchange of sums", "backward")).And.GreaterThan(0));
        Assert.That(Sent("exchange of sizes", "forward"), Is.EqualTo(world.Size * (world.Size - 1) * 16));
    }

    private static double Sum(ProcessGroup world, double value) => world.AllReduce(value);
}
