using Moe.Optimizers;
using Moe.Torch;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>The replay of a file in the common form: parameters, a gradient a step, one optimizer over all of them.</summary>
public abstract class OptimizerReplay : IGoldenReplay
{
    /// <inheritdoc/>
    public abstract bool Understands(GoldenFile file);

    /// <inheritdoc/>
    public void Replay(GoldenFile file)
    {
        using var scope = new TensorScope();
        var hyper = file.ReadHyper();
        var parameters = Parameters(file);
        var (optimizer, learningRate) = Build(file, hyper, parameters);
        using var owned = optimizer;
        hyper.AssertAllConsumed();

        // These rules amplify no rounding: each step is a few operations an element, and the weights stay of order one.
        var tolerance = GoldenTolerance.Of(file, float64: 1e-12);
        for (var step = 0; step < file.Steps; step++)
        {
            file.WriteGradients(step, parameters);
            optimizer.Step(new OptimizerStep(file.LearningRate(step, learningRate), NormOf(parameters)));
            GoldenTolerance.AssertReached(file, step, parameters, tolerance);
        }
    }

    /// <summary>The optimizer that the settings describe, and its learning rate.</summary>
    protected abstract (Optimizer Optimizer, double LearningRate) Build(GoldenFile file, HyperReader hyper, LogicalParameter[] parameters);

    /// <summary>The file's parameters as the optimizer gets them.</summary>
    protected virtual LogicalParameter[] Parameters(GoldenFile file) => file.LogicalParameters();

    private static double NormOf(LogicalParameter[] parameters)
    {
        using var scope = new TensorScope();
        return Math.Sqrt(parameters.Sum(parameter => parameter.Gradient.To(DType.Float64).ToArray<double>().Sum(value => value * value)));
    }
}
