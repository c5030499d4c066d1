using System.Globalization;
using System.Text;
using System.Text.Json;
using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>What the ranks of <see cref="ParameterOwnersTests"/> do.</summary>
internal static class ParameterOwnersScenarios
{
    /// <summary>Random models on every mesh of these ranks, by elements and by a cost of its own; among them models of fewer parameters than ranks. Argument: seed.</summary>
    public static void ShareOut(ProcessGroup world, string[] arguments)
    {
        var seed = int.Parse(arguments[0], CultureInfo.InvariantCulture);
        foreach (var expertParallel in Enumerable.Range(1, world.Size).Where(size => world.Size % size == 0))
        {
            using var mesh = new DeviceMesh(world, expertParallel);
            for (var model = 0; model < 20; model++)
            {
                using var scope = new TensorScope();
                var parameters = RandomModel(new Random(seed + model), mesh, dense: model, stacks: model % 5);
                var what = $"{mesh}, model {model}";
                MustBeShared(world, mesh, parameters, new ParameterOwners(parameters, mesh), parameter => parameter.Value.Count, what);
                static double Cubic(Parameter parameter) => Math.Pow(parameter.Value.Count, 1.5);
                MustBeShared(world, mesh, parameters, new ParameterOwners(parameters, mesh, Cubic), Cubic, what + ", by its own cost");
            }
        }
    }

    private static void MustBeShared(
        ProcessGroup world, DeviceMesh mesh, Parameter[] parameters, ParameterOwners owners, Func<Parameter, double> cost, string what)
    {
        string[] owned = [.. parameters.SelectMany(parameter => parameter.Keys.Zip(owners.Owns(parameter)).Where(key => key.Second).Select(key => key.First))];
        var everyones = All(world, owned).SelectMany(keys => keys).ToArray();
        Assert.That(everyones, Is.Unique, what);
        Assert.That(everyones, Is.EquivalentTo(All<string[]>(world, [.. parameters.SelectMany(parameter => parameter.Keys)]).SelectMany(keys => keys).Distinct()), what);

        // The cost again, from what each rank says that it owns.
        var own = parameters.Sum(parameter => cost(parameter) * owners.Owns(parameter).Average(isOwned => isOwned ? 1.0 : 0));
        var loads = All(world, own);
        Assert.That(owners.Loads, Is.EqualTo(loads).Within(1e-9).Percent, what);
        var largest = parameters.Max(parameter => (double?)cost(parameter) / (parameter.ExpertIds?.Length ?? 1)) ?? 0;
        Assert.That(loads.Max(), Is.LessThanOrEqualTo((loads.Average() + largest) * (1 + 1e-9)), what);
        foreach (var parameter in parameters)
        {
            var ranks = All(world, owners.Of(parameter).ToArray());
            Assert.That(ranks, Is.All.EqualTo(ranks[0]).And.All.Ordered, $"{what}: the same on all ranks, in contiguous ranges");
            Assert.That(ranks[0], Has.Length.EqualTo(parameter.ExpertIds?.Length ?? 1));
        }
    }

    private static Parameter[] RandomModel(Random random, DeviceMesh mesh, int dense, int stacks)
    {
        var denseParameters = Enumerable.Range(0, dense).Select(i =>
        {
            long[] shape = [2 * random.Next(1, 20), random.Next(1, 20)];
            ParameterPart[]? parts = i % 3 == 0 ? [new("query", 0, shape[0] / 2), new("key", shape[0] / 2, shape[0] / 2)] : null;
            return new Parameter($"layers.{i}.dense{i}", Tensor.Zeros(shape), ParameterKind.Matrix, parts: parts);
        }).ToList();
        var stackParameters = Enumerable.Range(0, stacks).Select(i =>
        {
            var experts = random.Next(1, 6);
            long[] shape = [experts, 2 * random.Next(1, 9), random.Next(1, 9)];
            int[] ids = [.. Enumerable.Range(experts * mesh.ExpertRank, experts)];
            ParameterPart[]? parts = i % 2 == 0 ? [new("gate", 0, shape[1] / 2), new("up", shape[1] / 2, shape[1] / 2)] : null;
            return new Parameter($"layers.{i}.experts.stack{i}", Tensor.Zeros(shape), ParameterKind.Expert, ids, parts);
        });
        return [.. denseParameters, .. stackParameters];
    }

    private static T[] All<T>(ProcessGroup world, T value) =>
        [.. world.GatherBytes(JsonSerializer.SerializeToUtf8Bytes(value)).Select(bytes => JsonSerializer.Deserialize<T>(Encoding.UTF8.GetString(bytes))!)];
}
