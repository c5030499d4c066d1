using Moe.Distributed;
using Moe.Optimizers;
using Moe.Torch;

namespace Moe.Tests.Optimizers;

/// <summary>Linear layers without a model, under MKOR over plain gradient descent of rate 1: what a step takes from a weight is its preconditioned gradient.</summary>
internal sealed class MkorLayers : IDisposable
{
    private readonly DeviceMesh _mesh = new(new SingleProcessGroup(TimeSpan.FromSeconds(1)), 1);
    private readonly GradientReduction _reduction;
    private long _step;

    internal MkorLayers(MkorOptions options, params Parameter[] parameters)
    {
        Parameters = parameters;
        _reduction = new GradientReduction(parameters, _mesh);
        Mkor = new Mkor(parameters, _reduction.Logical, new Sgd(_reduction.Logical, new SgdOptions()), new ParameterPlacement(_mesh), options);
    }

    internal Mkor Mkor { get; }

    internal IReadOnlyList<Parameter> Parameters { get; }

    internal IReadOnlyList<LogicalParameter> Logical => _reduction.Logical;

    /// <summary>A stack of experts [E, O, I] of zeros.</summary>
    internal static Parameter Experts(string name, long experts, long outputs, long inputs, DType type = DType.Float64) =>
        new(name, Tensor.Zeros([experts, outputs, inputs], type), ParameterKind.Expert, [.. Enumerable.Range(0, (int)experts)]);

    internal static Parameter Dense(string name, long outputs, long inputs, DType type = DType.Float64) =>
        new(name, Tensor.Zeros([outputs, inputs], type), ParameterKind.Matrix);

    internal Tensor State(string name, string key) => Mkor.State.Single(state => state.Name == name && state.Key == key).Value;

    /// <summary>One step.</summary>
    /// <param name="collect">Told each parameter whose rows are collected.</param>
    /// <param name="gradient">Of a logical parameter; null leaves zeros.</param>
    internal void Step(Action<Parameter>? collect = null, Func<LogicalParameter, Tensor>? gradient = null)
    {
        Mkor.Begin(_step++);
        foreach (var parameter in Parameters.Where(parameter => parameter.RowSums is not null))
        {
            collect?.Invoke(parameter);
        }

        foreach (var logical in Logical)
        {
            logical.Gradient.Zero_();
            if (gradient is not null)
            {
                logical.Gradient.CopyFrom_(gradient(logical));
            }
        }

        Mkor.Step(new OptimizerStep(1));
    }

    public void Dispose()
    {
        Mkor.Dispose();
        _reduction.Dispose();
        _mesh.Dispose();
    }
}
