using System.Text.Json;
using Moe.Distributed;
using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>Repeats a recorded run of MKOR, step by step, from the rows that its layers saw, and compares all numbers that the file holds.</summary>
/// <remarks>
/// The file's gradients are those of the mean loss over N rows of a micro-batch, times grad_scale; N times that is a row's own. The
/// program divides rows by the number of micro-batches before it clips them, and adds the micro-batches: as a mean over all rows, that is
/// clipping at as many times the bound, which <paramref name="options"/> have already.
/// </remarks>
internal sealed class MkorRun(
    GoldenFile file, MkorOptions options, Func<IReadOnlyList<LogicalParameter>, Optimizer> inner, double learningRate, int microBatches, double gradientScale)
    : IDisposable
{
    private readonly double _tolerance = GoldenTolerance.Of(file, float64: 1e-12);
    private readonly DeviceMesh _mesh = new(new SingleProcessGroup(TimeSpan.FromSeconds(1)), 1);
    private readonly Parameter[] _parameters = [.. file.Parameters.Zip(file.LogicalParameters())
        .Select(pair => new Parameter(pair.First.Name, pair.Second.Value, ParameterKind.Matrix))];

    internal void AllSteps()
    {
        using var reduction = new GradientReduction(_parameters, _mesh);
        using var mkor = new Mkor(_parameters, reduction.Logical, inner(reduction.Logical), new ParameterPlacement(_mesh), options);
        foreach (var step in file.Root.GetProperty("steps").EnumerateArray())
        {
            using var scope = new TensorScope();
            Take(step, mkor, reduction.Logical);
            CompareGradients(step, reduction.Logical);
            CompareFactors(step, mkor);
        }
    }

    public void Dispose() => _mesh.Dispose();

    private void Take(JsonElement step, Mkor mkor, IReadOnlyList<LogicalParameter> parameters)
    {
        mkor.Begin(step.GetProperty("step").GetInt64());
        foreach (var parameter in _parameters.Where(parameter => parameter.RowSums is not null))
        {
            Collect(parameter, step);
        }

        foreach (var parameter in parameters)
        {
            parameter.Gradient.CopyFrom_(Values(step.GetProperty("raw_grads").GetProperty(parameter.Key)).View(parameter.Gradient.Shape));
        }

        mkor.Step(new OptimizerStep(learningRate));
    }

    private void Collect(Parameter weight, JsonElement step)
    {
        var layer = weight.Name[..^".weight".Length];
        var inputs = step.GetProperty("layer_inputs").GetProperty(layer).EnumerateArray().ToArray();
        var gradients = step.GetProperty("layer_output_grads").GetProperty(layer).EnumerateArray().ToArray();
        Assert.That((inputs.Length, gradients.Length), Is.EqualTo((microBatches, microBatches)), $"{file}: micro-batches of a step");
        foreach (var (x, dy) in inputs.Zip(gradients))
        {
            var rows = Values(x).View(-1, weight.Value.Size(1));
            var count = rows.Size(0);
            weight.RowSums!.Add(rows, Values(dy).View(count, -1) * (count / gradientScale), [count]);
        }
    }

    // A bias is one column of its layer's product: its rounding is a share of the layer's largest entry.
    private void CompareGradients(JsonElement step, IReadOnlyList<LogicalParameter> parameters)
    {
        foreach (var parameter in parameters)
        {
            var preconditioned = step.GetProperty("preconditioned_grads");
            var layer = parameter.Key[..(parameter.Key.LastIndexOf('.') + 1)];
            var largest = preconditioned.EnumerateObject().Where(one => one.Name.StartsWith(layer, StringComparison.Ordinal))
                .SelectMany(one => GoldenFile.Numbers(one.Value)).Max(Math.Abs);
            Compare(step, parameter.Gradient, preconditioned.GetProperty(parameter.Key), $"gradient of {parameter.Key}", largest);
            Compare(step, parameter.Value, step.GetProperty("expected").GetProperty(parameter.Key), parameter.Key);
        }
    }

    private void CompareFactors(JsonElement step, Mkor mkor)
    {
        var state = mkor.State.ToDictionary(state => (state.Name, state.Key), state => state.Value);
        foreach (var (i, weight) in _parameters.Where(parameter => parameter.Value.Rank == 2).Index())
        {
            foreach (var (name, key) in new[] { ("mkor_input", "A_inv"), ("mkor_output", "G_inv") })
            {
                var expected = step.GetProperty(key)[i];
                var exists = state.TryGetValue((name, weight.Name), out var factor);
                Assert.That(exists, Is.EqualTo(expected.ValueKind != JsonValueKind.Null), $"{file}: {key} of {weight.Name}");
                if (exists)
                {
                    Compare(step, factor!, expected, $"{key} of {weight.Name}");
                }
            }

            // A layer that stays first-order keeps the flags that it began with.
            if (step.TryGetProperty("reset_flags_after", out var flags))
            {
                Assert.That(
                    mkor.ResetFlags(weight.Name) ?? (true, true),
                    Is.EqualTo((flags[0][i].GetBoolean(), flags[1][i].GetBoolean())),
                    $"{file}: step {step.GetProperty("step")}, flags of {weight.Name}");
            }
        }
    }

    private void Compare(JsonElement step, Tensor actual, JsonElement expected, string what, double? largest = null)
    {
        var values = GoldenFile.Numbers(expected);
        Assert.That(
            actual.Detach().To(DType.Float64).ToArray<double>(),
            Is.EqualTo(values).Within(_tolerance * (largest ?? values.Max(Math.Abs))),
            $"{file}: step {step.GetProperty("step")}, {what}");
    }

    private Tensor Values(JsonElement numbers) => Tensor.From(GoldenFile.Numbers(numbers)).View(-1).To(file.Type);
}
