using System.Globalization;
using Moe.Tests.Distributed;
using Moe.Training;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Which way tokens go under <c>parallel.dispatcher: auto</c>.</summary>
public class DispatcherAssemblyTests : TinyRunTests
{
    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void All_ranks_take_the_way_that_was_measured_to_be_quicker(string backend) => Ranks.Run(DispatcherAssemblyScenarios.MeasureAndAgree, [Folder], 4, backend);

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void Nothing_is_measured_where_there_is_one_way(string backend) => Ranks.Run(DispatcherAssemblyScenarios.MeasureNothing, [Folder], 4, backend);

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void A_run_has_the_bits_of_the_dispatcher_that_it_chose(string backend)
    {
        var seed = Random.Shared.Next(1 << 30);
        TestContext.Out.WriteLine($"seed {seed}");
        Ranks.Run(DispatcherAssemblyScenarios.TrainAsNamed, [Folder, seed.ToString(CultureInfo.InvariantCulture)], 4, backend);
    }

    [TestCase(0.0125, 0.01, DispatcherName.TwoLevel, "parallel.dispatcher is two_level: out and back take 12.5 ms straight and 10 ms over nodes")]
    [TestCase(0.01, 0.0125, DispatcherName.AllToAll, "parallel.dispatcher is all_to_all: out and back take 10 ms straight and 12.5 ms over nodes")]
    [TestCase(0.01, 0.01, DispatcherName.AllToAll, "parallel.dispatcher is all_to_all: out and back take 10 ms straight and 10 ms over nodes")]
    public void The_quicker_way_is_taken_and_of_equal_ones_the_straight(double straight, double overNodes, DispatcherName expected, string note)
    {
        var times = new ExchangeTimes(straight, overNodes);
        Assert.That(times.Quicker, Is.EqualTo(expected));
        Assert.That(times.ToString(), Is.EqualTo(note));
    }

    [TestCase("a a a a", 4, false)]
    [TestCase("a a b b", 4, true)]
    [TestCase("a a b b", 2, false)]
    [TestCase("a b b b", 2, true)] // those of the first replica do
    [TestCase("a a a b", 2, true)] // those of the last
    [TestCase("a b c d", 1, false)]
    public void Experts_span_machines_where_those_of_any_replica_do(string machines, int expertParallel, bool expected)
    {
        var names = machines.Split(' ');
        Assert.That(Enumerable.Range(0, names.Length).Select(rank => new MachineLayout(names, rank).Spans(expertParallel)), Is.All.EqualTo(expected));
    }
}
