using System.Globalization;
using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>What the ranks of <see cref="ShardedReductionTests"/> do.</summary>
internal static class ShardedReductionScenarios
{
    private const int ExpertsOfARank = 3;
    private const float Trained = 7;
    private const float Frozen = 5;

    /// <summary>Gradient sums, norm, clipping and plain descent, sharded and not, in large buckets and in small. Arguments: seed, expert-parallel ranks.</summary>
    public static void StepAsOne(ProcessGroup world, string[] arguments)
    {
        var seed = int.Parse(arguments[0], CultureInfo.InvariantCulture);
        using var mesh = new DeviceMesh(world, int.Parse(arguments[1], CultureInfo.InvariantCulture));
        foreach (var type in new[] { DType.Float64, DType.Float32, DType.BFloat16 })
        {
            // Without Gloo's ring, which takes over above 128 KiB, both forms add in the order of the ranks.
            foreach (var bucketBytes in new long[] { 1, 300, 1 << 20 })
            {
                using var scope = new TensorScope();
                var whole = Descend(seed, mesh, type, new() { BucketBytes = bucketBytes }, out var wholeNorm, out _);
                var shared = Descend(seed, mesh, type, new() { BucketBytes = bucketBytes, Shard = true }, out var sharedNorm, out var owned);
                var byLayer = Descend(seed, mesh, type, new() { BucketBytes = bucketBytes, Shard = true, ByLayer = true }, out _, out _);
                Assert.That(sharedNorm, Is.EqualTo(wholeNorm), "the same bits");
                Assert.That(owned, Is.LessThan(whole.Count), "no rank steps everything");
                foreach (var (key, weights) in whole)
                {
                    Assert.That(shared[key], Is.EqualTo(weights), $"{key}, {type}, buckets of {bucketBytes}");
                    Assert.That(byLayer[key], Is.EqualTo(weights).Within(type == DType.BFloat16 ? 1e-2 : 1e-6), $"{key}, {type}, by layer");
                }
            }
        }
    }

    /// <summary>One NaN after another, each in the hands of another owner; of two, the one that is first in the model.</summary>
    public static void NameNotFinite(ProcessGroup world)
    {
        using var mesh = new DeviceMesh(world, 2);
        using var scope = new TensorScope();
        foreach (var shard in new[] { true, false })
        {
            var parameters = Model(mesh, DType.Float32);
            using var reduction = new GradientReduction(parameters, mesh, new() { Shard = shard });
            string? Named(params string[] keys)
            {
                using var inner = new TensorScope();
                using var mode = Autograd.NoGrad();
                reduction.Zero();
                foreach (var logical in parameters.SelectMany(parameter => parameter.Logical(parameter.Value.Gradient!)))
                {
                    // One rank alone has it: of those that hold it, the one with the highest rank.
                    if (keys.Contains(logical.Key) && mesh.ReplicaRank == 1 && (logical.Key.Contains("experts", StringComparison.Ordinal) || world.Rank == 3))
                    {
                        logical.Value.Fill_(double.NaN);
                    }
                }

                reduction.Reduce(1);
                var norm = reduction.MeasureNorm();
                Assert.That(norm.IsFinite, Is.EqualTo(keys.Length == 0));
                return norm.FirstNotFinite();
            }

            Assert.That(Named(), Is.Null);
            string[] all = [.. Enumerable.Range(0, 2).SelectMany(rank => Keys(parameters, rank)).Distinct()];
            foreach (var key in all)
            {
                Assert.That(Named(key), Is.EqualTo(key));
            }

            Assert.That(Named("layers.1.experts.4.gate", "layers.1.experts.0.up", "head"), Is.EqualTo("layers.1.experts.0.up"), "by expert");
            Assert.That(Named("layers.1.query", "layers.0.experts.5.down", "head"), Is.EqualTo("layers.0.experts.5.down"), "by layer");
        }
    }

    /// <summary>A frozen layer costs no call and keeps its weights; a frozen parameter among others counts as zeros.</summary>
    public static void LeaveFrozenAlone(ProcessGroup world)
    {
        using var mesh = new DeviceMesh(world, 1);
        foreach (var shard in new[] { true, false })
        {
            using var scope = new TensorScope();
            var parameters = Model(mesh, DType.Float32);
            using var reduction = new GradientReduction(parameters, mesh, new() { Shard = shard, ByLayer = true });
            var (all, _) = CallsOfAStep(world, reduction, parameters);
            Assert.That(all, Is.EqualTo(10 * (shard ? 2 : 1)), "two stacks and the rest of two layers, one more layer, and three outside of layers");

            Freeze(parameters, parameter => parameter.Layer is 0 or 1);
            var (few, norm) = CallsOfAStep(world, reduction, parameters);
            Assert.That(few, Is.EqualTo(4 * (shard ? 2 : 1)));
            var trained = parameters.Where(parameter => parameter.Layer is not (0 or 1)).Sum(parameter => parameter.Value.Count);
            Assert.That(norm, Is.EqualTo(Math.Sqrt(trained) * world.Size).Within(1e-6), "every gradient is one on each rank");

            Freeze(parameters, parameter => parameter.Name == "layers.0.qkv");
            (_, norm) = CallsOfAStep(world, reduction, parameters);
            Assert.That(norm, Is.EqualTo(Math.Sqrt(parameters.Sum(parameter => parameter.Value.RequiresGrad ? parameter.Value.Count : 0)) * world.Size).Within(1e-6));
        }
    }

    private static void Freeze(Parameter[] parameters, Func<Parameter, bool> isFrozen)
    {
        foreach (var parameter in parameters)
        {
            parameter.Value.RequiresGrad = !isFrozen(parameter);
        }
    }

    // Also that what is frozen keeps its weights, and that the others' arrive everywhere.
    private static (long Calls, double Norm) CallsOfAStep(ProcessGroup world, GradientReduction reduction, Parameter[] parameters)
    {
        using var scope = new TensorScope();
        using var mode = Autograd.NoGrad();
        world.Trace.ResetTotals();
        reduction.Zero();
        foreach (var parameter in parameters)
        {
            parameter.Value.Fill_(parameter.Value.RequiresGrad ? world.Rank : Frozen);
            parameter.Value.Gradient = Tensor.Ones(parameter.Value.Shape).Here();
        }

        reduction.Reduce(1);
        var sums = world.Trace.Totals(Collective.ReduceScatter).Calls + world.Trace.Totals(Collective.AllReduce).Calls;
        var norm = reduction.MeasureNorm().Norm;
        var trained = parameters.Where(parameter => parameter.Value.RequiresGrad).SelectMany(parameter => parameter.Keys).ToHashSet();
        foreach (var logical in reduction.Logical.Where(logical => trained.Contains(logical.Key)))
        {
            logical.Value.Fill_(Trained);
        }

        reduction.ShareValues();
        foreach (var parameter in parameters)
        {
            Assert.That(parameter.Value.ToArray<float>(), Is.All.EqualTo(parameter.Value.RequiresGrad ? Trained : Frozen), parameter.Name);
        }

        return (sums + world.Trace.Totals(Collective.AllGather).Calls, norm);
    }

    private static IEnumerable<string> Keys(Parameter[] parameters, int expertRank) => parameters
        .SelectMany(parameter => parameter.ExpertIds is null
            ? parameter.Keys
            : new Parameter(parameter.Name, parameter.Value, parameter.Kind, Ids(expertRank), parameter.Parts).Keys);

    private static Dictionary<string, double[]> Descend(
        int seed, DeviceMesh mesh, DType type, GradientReductionOptions options, out double norm, out int owned)
    {
        var parameters = Model(mesh, type);
        using var reduction = new GradientReduction(parameters, mesh, options);
        using var mode = Autograd.NoGrad();
        var random = new Random(seed + mesh.World.Rank);
        norm = 0;
        for (var step = 0; step < 2; step++)
        {
            reduction.Zero();
            foreach (var parameter in parameters)
            {
                parameter.Value.Gradient = RandomTensors.Random(random, DType.Float32, parameter.Value.Shape).To(type);
            }

            reduction.Reduce(0.125);
            var measured = reduction.MeasureNorm();
            norm = measured.Norm;
            measured.Clip(0.9 * norm);
            foreach (var logical in reduction.Logical)
            {
                logical.Value.CopyFrom_(logical.Value - (logical.Gradient.To(type) * 0.5));
            }

            reduction.ShareValues();
        }

        owned = reduction.Logical.Count;
        return parameters.SelectMany(parameter => parameter.Logical(parameter.Value.Detach()))
            .ToDictionary(logical => logical.Key, logical => logical.Value.To(DType.Float64).Contiguous().ToArray<double>());
    }

    // Three experts a rank are divisible by no number of replicas but three; the third layer has none.
    private static Parameter[] Model(DeviceMesh mesh, DType type)
    {
        Parameter Dense(string name, ParameterKind kind, params long[] shape) => new(name, Tensor.Zeros(shape, type).Here(), kind);
        Parameter Stack(string name, ParameterPart[]? parts, params long[] shape) =>
            new(name, Tensor.Zeros([ExpertsOfARank, .. shape], type).Here(), ParameterKind.Expert, Ids(mesh.ExpertRank), parts);
        IEnumerable<Parameter> Layer(int layer) =>
        [
            new($"layers.{layer}.qkv", Tensor.Zeros([9, 4], type).Here(), ParameterKind.Matrix, parts: [new("query", 0, 4), new("key", 4, 2), new("value", 6, 3)]),
            Dense($"layers.{layer}.norm", ParameterKind.Norm, 4),
            Stack($"layers.{layer}.experts.gate_up", [new("gate", 0, 3), new("up", 3, 3)], 6, 4),
            Stack($"layers.{layer}.experts.down", null, 4, 3),
        ];
        return
        [
            Dense("embedding", ParameterKind.Embedding, 11, 4),
            .. Layer(0),
            .. Layer(1),
            Dense("layers.2.dense", ParameterKind.Matrix, 5, 5),
            Dense("norm", ParameterKind.Norm, 4),
            Dense("head", ParameterKind.Head, 11, 4),
        ];
    }

    private static int[] Ids(int expertRank) => [.. Enumerable.Range(ExpertsOfARank * expertRank, ExpertsOfARank)];
}
