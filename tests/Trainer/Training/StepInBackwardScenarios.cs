using Moe.Distributed;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Configuration;
using Moe.Training.Verification;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What the ranks of <see cref="StepInBackwardTests"/> do. The first argument is the folder.</summary>
internal static class StepInBackwardScenarios
{
    /// <summary>Every case, by chunks and not, sharded and not, stepped within backward and behind it.</summary>
    public static void Compare(ProcessGroup world, string[] arguments)
    {
        using var mesh = new DeviceMesh(world, world.Size);
        foreach (var one in StepInBackwardCase.All)
        {
            foreach (var (dispatcher, chunks, shard) in new[] { (DispatcherName.AllToAll, 1, false), (DispatcherName.AllToAll, 3, true), (DispatcherName.AllGather, 1, false) })
            {
                MustBeTheSame(one, mesh, $"{one.Name}, {dispatcher}, {chunks} chunks", config => config with
                {
                    Parallel = config.Parallel with { Dispatcher = dispatcher, DispatchChunks = chunks, ShardOptimizer = shard },
                }, arguments[0]);
            }
        }
    }

    /// <summary>The mesh computes what one process computes.</summary>
    public static void Verify(ProcessGroup world, string[] arguments)
    {
        List<string> lines = [];
        using var mesh = new DeviceMesh(world, world.Size);
        var config = StepInBackwardCase.All[0].Config(arguments[0], inBackward: true);
        Assert.That(new MeshVerification(config, mesh, arguments[0], lines.Add).Run(), string.Join('\n', lines));
    }

    /// <summary>A NaN in one rank's experts: every rank ends, and names the same parameter.</summary>
    public static void EndTogether(ProcessGroup world, string[] arguments)
    {
        using var mesh = new DeviceMesh(world, world.Size);
        using var session = TinyRun.Session(StepInBackwardCase.All[0].Config(arguments[0], inBackward: true), mesh);
        session.Advance(stop: false);
        if (world.Rank == world.Size - 1)
        {
            using var mode = Autograd.NoGrad();
            using var scope = new TensorScope();
            session.Model.Parameters.Last(parameter => parameter.Kind == ParameterKind.Expert).Value.Select(0, 0).Fill_(double.NaN);
        }

        Assert.That(
            () => session.Advance(stop: false),
            Throws.TypeOf<TrainingException>().With.Message.Contains("first in 'embedding'").And.Message.Contains("stepped within backward already"));
    }

    /// <summary>Trains in both ways, and compares weights, the optimizer's state and the gradients' norms.</summary>
    public static void MustBeTheSame(StepInBackwardCase one, DeviceMesh mesh, string what, Func<RunConfig, RunConfig> change, string folder)
    {
        using var behind = TinyRun.Session(change(one.Config(folder, inBackward: false)), mesh);
        using var within = TinyRun.Session(change(one.Config(folder, inBackward: true)), mesh);
        var (expected, actual) = (StepInBackwardCase.Train(behind), StepInBackwardCase.Train(within));
        var experts = within.Model.Parameters.Where(parameter => parameter.Kind == ParameterKind.Expert).Sum(parameter => parameter.Value.Count * parameter.Value.DType.Size());
        foreach (var ((norm, bytes), (normWithin, bytesWithin)) in expected.Zip(actual))
        {
            Assert.That(normWithin, Is.EqualTo(norm).Within(1e-12 * norm), what);
            Assert.That(bytesWithin, Is.EqualTo(bytes - experts), what);
        }

        var (states, statesWithin) = (behind.All(), within.All());
        Assert.That(statesWithin.Keys, Is.EqualTo(states.Keys), what);
        foreach (var (key, numbers) in states)
        {
            Assert.That(statesWithin[key].AsSpan().SequenceEqual(numbers), $"{what}: {key}");
        }
    }
}
