using System.Text.Json;
using Moe.Distributed;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What the ranks of <see cref="ShardingTests"/> do. The first argument is the folder.</summary>
internal static class ShardingScenarios
{
    private static readonly Precision[] Precisions = [Precision.Float64, Precision.Float32];

    /// <summary>Trains every case on every mesh of these ranks in both modes, with a checkpoint between; what comes out is what one process computes.</summary>
    public static void Train(ProcessGroup world, string[] arguments) => ForEach(world, (mesh, shard, one, precision) =>
    {
        var run = Run(arguments[0], one, precision, mesh, shard);
        using var session = Session(one, precision, mesh, shard, arguments[0], run);
        ShardingCase.MakeIdle(session);
        for (var step = 0; step < ShardingCase.Steps; step++)
        {
            if (step == ShardingCase.StepsBefore)
            {
                session.Save();
            }

            var result = session.Advance(stop: false);
            Assert.That(result.GradientNorm, Is.GreaterThan(session.Config.Train.ClipNorm), "every step is clipped");
            using var scope = new TensorScope();
            Assert.That(result.Load.ToTensor().Select(0, 0).ToArray<long>()[4], Is.Zero, "one expert has nothing to do");
        }

        if (world.Size == 1)
        {
            File.WriteAllBytes(Oracle(arguments[0], one, precision), JsonSerializer.SerializeToUtf8Bytes(session.Weights()));
        }

        MustBeOracle(session, arguments[0], one, precision, run);
        if (one.KeepsAlike)
        {
            MustKeepItsShare(session, shard, run);
        }
    });

    /// <summary>Goes on from every checkpoint of another mesh in the other mode.</summary>
    public static void GoOn(ProcessGroup world, string[] arguments) => ForEach(world, (mesh, shard, one, precision) =>
    {
        foreach (var run in Directory.GetDirectories(arguments[0], $"{one.Name} {precision} *{(shard ? "whole" : "shared")}"))
        {
            using var session = Session(one, precision, mesh, shard, arguments[0], "nowhere");
            using var checkpoint = new CheckpointReader(new CheckpointFolder(run).Of(ShardingCase.StepsBefore));
            session.Resume(checkpoint, warning => Assert.Fail(warning));
            while (session.Step < ShardingCase.Steps)
            {
                session.Advance(stop: false);
            }

            MustBeOracle(session, arguments[0], one, precision, $"{run} on {mesh}");
        }
    });

    /// <summary>A NaN on the last rank: no rank steps, and all name the same parameter, in both modes.</summary>
    public static void SkipTogether(ProcessGroup world, string[] arguments) => ForEach(world, (mesh, shard, one, precision) =>
    {
        using var session = Session(one, precision, mesh, shard, arguments[0], "nowhere");
        session.Advance(stop: false);
        var router = session.Model.Parameters.Last(parameter => parameter.Kind == ParameterKind.Router);
        using (Autograd.NoGrad())
        using (new TensorScope())
        {
            if (world.Rank == world.Size - 1)
            {
                router.Value.Narrow(0, 0, 1).Fill_(double.NaN);
            }
        }

        var before = session.All();
        var result = session.Advance(stop: false);
        Assert.That(result.Updated, Is.False);
        var trained = session.Model.Parameters.First(parameter => !session.Optimizer.Freezes(parameter.Kind, parameter.Layer));
        Assert.That(result.NotFinite, Is.EqualTo(trained.Keys.First()), "the model's first that trains: backward carries the NaN there");
        Assert.That(session.All(), Is.EqualTo(before));
    });

    private static void MustBeOracle(TrainingSession session, string folder, ShardingCase one, Precision precision, string what)
    {
        var oracle = JsonSerializer.Deserialize<Dictionary<string, double[]>>(File.ReadAllBytes(Oracle(folder, one, precision)))!;
        foreach (var (key, weights) in session.Weights())
        {
            Assert.That(LogicalState.Apart(weights, oracle[key]), Is.LessThanOrEqualTo(precision == Precision.Float64 ? 1e-12 : 1e-5), $"{what}: {key}");
        }
    }

    // Sharded, what a rank keeps is its share of the whole within one stored matrix, or within one expert's.
    private static void MustKeepItsShare(TrainingSession session, bool shard, string what)
    {
        using var scope = new TensorScope();
        var bytes = session.Optimizer.State.Sum(state => state.Value.Count * state.Value.DType.Size());
        var world = session.Mesh.World;
        var all = Tensor.Empty([world.Size], DType.Int64);
        world.AllGather(all, Tensor.From([bytes], 1));
        var kept = all.ToArray<long>();
        var bytesAnElement = session.Optimizer.State.Where(state => state.Name != "steps").Select(state => state.Name).Distinct().Count()
            * (session.Config.Train.Precision == Precision.Float64 ? sizeof(double) : sizeof(float));
        var held = session.Model.Parameters.Sum(parameter => (parameter.Value.Count * bytesAnElement) + (parameter.Keys.Count() * sizeof(long)));
        if (shard)
        {
            var largest = session.Model.Parameters.Max(parameter => parameter.Value.Count / (parameter.ExpertIds?.Length ?? 1));
            Assert.That(kept.Max(), Is.LessThanOrEqualTo((kept.Sum() / world.Size) + (largest * bytesAnElement) + (sizeof(long) * session.Optimizer.State.Count())), what);
            Assert.That(world.Size == 1 || bytes < held, what);
        }
        else
        {
            Assert.That(bytes, Is.EqualTo(held), what);
        }
    }

    private static void ForEach(ProcessGroup world, Action<DeviceMesh, bool, ShardingCase, Precision> act)
    {
        foreach (var expertParallel in world.Size == 4 ? (int[])[2] : [.. Enumerable.Range(1, world.Size)])
        {
            using var mesh = new DeviceMesh(world, expertParallel);
            foreach (var precision in Precisions)
            {
                foreach (var one in ShardingCase.All)
                {
                    act(mesh, true, one, precision);
                    act(mesh, false, one, precision);
                }
            }
        }
    }

    private static TrainingSession Session(ShardingCase one, Precision precision, DeviceMesh mesh, bool shard, string folder, string checkpoints)
    {
        var config = one.Config(folder, precision);
        return TinyRun.Session(config with { Parallel = config.Parallel with { ShardOptimizer = shard } }, mesh, checkpoints);
    }

    private static string Run(string folder, ShardingCase one, Precision precision, DeviceMesh mesh, bool shard) =>
        Path.Combine(folder, $"{one.Name} {precision} {mesh} {(shard ? "shared" : "whole")}");

    private static string Oracle(string folder, ShardingCase one, Precision precision) => Path.Combine(folder, $"{one.Name} {precision}.json");
}
