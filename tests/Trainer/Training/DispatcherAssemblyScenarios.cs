using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Moe.Distributed;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What the ranks of <see cref="DispatcherAssemblyTests"/> do: four, which stand for nodes and machines. Argument: folder.</summary>
internal static partial class DispatcherAssemblyScenarios
{
    private const int Steps = 3;

    /// <summary>Each time that the ways are measured all ranks take the same, and the note says which and the times of both.</summary>
    public static void MeasureAndAgree(ProcessGroup world, string[] arguments)
    {
        // Ways of few tokens take nearly the same time, so that ranks which went by their own would soon differ.
        const int Times = 12;
        var config = TinyRun.Config(arguments[0]);
        config = config with { Train = config.Train with { MicroBatch = 1 } };
        using var mesh = OverMachines(world, world.Size, perNode: 2);
        for (var time = 0; time < Times; time++)
        {
            List<string> notes = [];
            var dispatcher = DispatcherAssembly.Build(config, mesh, Device.Cpu, notes.Add);
            Assert.That(notes, Has.Count.EqualTo(1));
            var (name, straight, overNodes) = Read(notes[0]);
            Assert.That(name, Is.EqualTo(NameOf(dispatcher)), notes[0]);
            Assert.That(straight, Is.GreaterThan(0), notes[0]);
            Assert.That(overNodes, Is.GreaterThan(0), notes[0]);
            Assert.That(notes[0], Does.Contain("over nodes of 2 ranks, for 16 tokens a rank"));
            if (straight != overNodes) // as they are rounded
            {
                Assert.That(name, Is.EqualTo(overNodes < straight ? "two_level" : "all_to_all"), notes[0]);
            }

            var all = world.GatherBytes(Encoding.UTF8.GetBytes(notes[0])).Select(Encoding.UTF8.GetString).Distinct();
            Assert.That(all, Has.Exactly(1).Items, $"time {time}");
        }
    }

    /// <summary>Where there is nothing to choose, no rows are sent and nothing is said.</summary>
    public static void MeasureNothing(ProcessGroup world, string[] arguments)
    {
        var config = TinyRun.Config(arguments[0]);
        using var overMachines = OverMachines(world, world.Size, perNode: 2);
        using var oneMachine = new DeviceMesh(world, world.Size) { RanksPerNode = 2 };
        using var nodesOfOne = OverMachines(world, world.Size, perNode: 1);
        using var oneNode = OverMachines(world, world.Size, perNode: world.Size);
        using var withinNodes = OverMachines(world, 2, perNode: 2);
        using var uneven = OverMachines(world, world.Size, perNode: 3);
        using var alone = OverMachines(world, 1, perNode: 2);
        MustBe<AllToAllDispatcher>(DispatcherName.Auto, oneMachine);
        MustBe<AllToAllDispatcher>(DispatcherName.Auto, nodesOfOne);
        MustBe<AllToAllDispatcher>(DispatcherName.Auto, oneNode);
        MustBe<AllToAllDispatcher>(DispatcherName.Auto, withinNodes);
        MustBe<AllToAllDispatcher>(DispatcherName.Auto, uneven);
        MustBe<LocalDispatcher>(DispatcherName.Auto, alone);
        MustBe<AllToAllDispatcher>(DispatcherName.AllToAll, overMachines);
        MustBe<TwoLevelDispatcher>(DispatcherName.TwoLevel, overMachines);
        MustBe<AllGatherDispatcher>(DispatcherName.AllGather, overMachines);

        void MustBe<T>(DispatcherName name, DeviceMesh mesh)
        {
            List<string> notes = [];
            world.Trace.ResetTotals();
            var named = config with { Parallel = config.Parallel with { Dispatcher = name } };
            var what = $"{name}, {mesh}, {mesh.RanksPerNode} ranks a node";
            Assert.That(DispatcherAssembly.Build(named, mesh, Device.Cpu, notes.Add), Is.TypeOf<T>(), what);
            Assert.That(notes, Is.Empty, what);
            Assert.That(world.Trace.Totals(Collective.AllToAll).Calls, Is.Zero, what);
        }
    }

    /// <summary>A run that measured has the bits of one that was told what the first has chosen, and not those of the other way.</summary>
    public static void TrainAsNamed(ProcessGroup world, string[] arguments)
    {
        // Of four experts a token its sum depends on the way: over the ranks in their order, or over those of each node first.
        var config = TinyRun.Config(arguments[0], (ulong)int.Parse(arguments[1], CultureInfo.InvariantCulture));
        config = config with { Model = config.Model with { Moe = config.Model.Moe with { TopK = 4 } } };
        using var mesh = OverMachines(world, world.Size, perNode: 2);
        var (losses, note) = Train(DispatcherName.Auto);
        var (straight, overNodes) = (Train(DispatcherName.AllToAll), Train(DispatcherName.TwoLevel));
        Assert.That((straight.Note, overNodes.Note), Is.EqualTo(((string?)null, (string?)null)));
        var (chosen, other) = Read(note!).Name == "two_level" ? (overNodes, straight) : (straight, overNodes);
        Assert.That(losses, Is.EqualTo(chosen.Losses), note);
        Assert.That(losses, Is.Not.EqualTo(other.Losses), note);

        (double[] Losses, string? Note) Train(DispatcherName name)
        {
            using var session = TinyRun.Session(config with { Parallel = config.Parallel with { Dispatcher = name } }, mesh);
            double[] losses = [.. Enumerable.Range(0, Steps).Select(_ => session.Advance(stop: false)).SelectMany(step => new[] { step.Loss, step.GradientNorm })];
            return (losses, session.MeasuredChoice);
        }
    }

    private static DeviceMesh OverMachines(ProcessGroup world, int expertParallel, int perNode) => new(world, expertParallel) { RanksPerNode = perNode, SpansMachines = true };

    private static string NameOf(TokenDispatcher dispatcher) => dispatcher is TwoLevelDispatcher ? "two_level" : "all_to_all";

    private static (string Name, double Straight, double OverNodes) Read(string note)
    {
        var parts = Note().Match(note).Groups;
        return (parts[1].Value, Number(parts[2]), Number(parts[3]));

        static double Number(Group part) => double.Parse(part.Value, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex(@"^parallel\.dispatcher is (\w+): out and back take ([0-9.]+) ms straight and ([0-9.]+) ms over nodes")]
    private static partial Regex Note();
}
