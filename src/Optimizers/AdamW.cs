using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>Settings of <see cref="AdamW"/>.</summary>
/// <param name="Beta1">Share of the running mean of gradients kept a step, in [0, 1).</param>
/// <param name="Beta2">Share of the running mean of squared gradients kept a step, in [0, 1).</param>
/// <param name="Epsilon">Added to the root of the mean square; above 0.</param>
/// <param name="WeightDecay">Decoupled decay, per step and per unit of learning rate; at least 0.</param>
public sealed record AdamWOptions(double Beta1 = 0.9, double Beta2 = 0.999, double Epsilon = 1e-8, double WeightDecay = 0.01);

/// <summary>Steps every weight by its mean gradient over the root of its mean squared gradient: all weights move at about the same speed.</summary>
/// <remarks>
/// Kingma and Ba 2014, https://arxiv.org/abs/1412.6980; decoupled decay after Loshchilov and Hutter 2017,
/// https://arxiv.org/abs/1711.05101. The order of operations is PyTorch's. Elementwise, so any split of a parameter steps alike.
/// </remarks>
public sealed class AdamW : Optimizer
{
    private readonly AdamWOptions _options;
    private readonly Tensor[] _mean;
    private readonly Tensor[] _meanSquare;

    /// <param name="parameters">Of any shape.</param>
    /// <param name="options">Validated with the rest of the configuration.</param>
    public AdamW(IReadOnlyList<Parameter> parameters, AdamWOptions options)
        : base(parameters)
    {
        _options = options;
        _mean = NewState("mean");
        _meanSquare = NewState("mean_square");
    }

    /// <inheritdoc/>
    protected override void Update(Tensor[] gradients, double learningRate)
    {
        var (beta1, beta2) = (_options.Beta1, _options.Beta2);
        Decay(learningRate * _options.WeightDecay);
        ForEach.Multiply_(_mean, beta1);
        ForEach.Add_(_mean, gradients, 1 - beta1);
        ForEach.Multiply_(_meanSquare, beta2);
        ForEach.AddProduct_(_meanSquare, gradients, gradients, 1 - beta2);

        // Both means start at 0; dividing by what they have gathered of their weights undoes the bias.
        var root = ForEach.Sqrt(_meanSquare);
        ForEach.Divide_(root, Math.Sqrt(1 - Math.Pow(beta2, Steps)));
        ForEach.Add_(root, _options.Epsilon);
        ForEach.AddQuotient_(Values, _mean, root, -learningRate / (1 - Math.Pow(beta1, Steps)));
    }
}
