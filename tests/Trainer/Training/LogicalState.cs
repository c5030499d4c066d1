using Moe.Torch;
using Moe.Training;

namespace Moe.Tests.Training;

/// <summary>The logical tensors of a rank, as numbers by key.</summary>
internal static class LogicalState
{
    /// <summary>Weights and selection biases that this rank holds.</summary>
    public static Dictionary<string, double[]> Weights(this TrainingSession session)
    {
        using var scope = new TensorScope();
        return session.Model.Parameters
            .SelectMany(parameter => parameter.Logical(parameter.Value.Detach()))
            .Concat(session.Model.SelectionBiases)
            .ToDictionary(logical => logical.Key, logical => Numbers(logical.Value));
    }

    /// <summary>Weights, selection biases and the optimizer's tensors, these with their name before the key.</summary>
    public static Dictionary<string, double[]> All(this TrainingSession session)
    {
        using var scope = new TensorScope();
        var all = session.Weights();
        foreach (var (name, key, _, value) in session.Optimizer.State)
        {
            all.Add($"{name} of {key}", Numbers(value));
        }

        return all;
    }

    /// <summary>Largest difference over the largest expected entry; 0 only where every number is the same.</summary>
    public static double Apart(double[] actual, double[] expected)
    {
        if (actual.Length != expected.Length)
        {
            return double.PositiveInfinity;
        }

        var (apart, largest) = (0.0, 0.0);
        for (var i = 0; i < actual.Length; i++)
        {
            var difference = Math.Abs(actual[i] - expected[i]);
            apart = difference <= apart ? apart : difference; // NaN stays
            largest = Math.Max(largest, Math.Abs(expected[i]));
        }

        return apart == 0 ? 0 : apart / largest;
    }

    private static double[] Numbers(Tensor tensor) => tensor.To(DType.Float64).Contiguous().ToArray<double>();
}
