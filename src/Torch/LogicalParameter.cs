namespace Moe.Torch;

/// <summary>
/// A logical parameter as an optimizer steps it: one whole matrix or vector of the unsplit model, such as one expert's gate, with the
/// place of its gradient. Norms, trust ratios, factors and orthogonalisation are taken of exactly this.
/// </summary>
/// <param name="key">The same on every mesh: <c>layers.3.moe.experts.7.gate</c>.</param>
/// <param name="kind">What it is to the model.</param>
/// <param name="value">[R, C] or [C], contiguous: the weights themselves, or a view of the tensor that they are stored in. Outside any scope.</param>
/// <param name="gradient">
/// Of the shape of <paramref name="value"/>, contiguous; in float32 (float64 for float64 weights), or in the weights' own type where backward's result is
/// taken as it is. Whoever made this says where it stands before each step.
/// </param>
/// <param name="layer">Index of its layer; null for embedding, final norm and head.</param>
/// <param name="expert">Global id of the expert that it belongs to; null for what every token passes.</param>
public sealed class LogicalParameter(string key, ParameterKind kind, Tensor value, Tensor gradient, int? layer = null, int? expert = null)
{
    /// <summary>The same on every mesh.</summary>
    public string Key { get; } = key;

    /// <summary>What it is to the model.</summary>
    public ParameterKind Kind { get; } = kind;

    /// <summary>The weights, [R, C] or [C].</summary>
    public Tensor Value { get; } = value;

    /// <summary>Where the gradient stands now.</summary>
    public Tensor Gradient { get; private set; } = gradient;

    /// <summary>Index of its layer; null for embedding, final norm and head.</summary>
    public int? Layer { get; } = layer;

    /// <summary>Global id of its expert; null for what every token passes.</summary>
    public int? Expert { get; } = expert;

    /// <summary>What the numbers in <see cref="Gradient"/> are still to be multiplied with: 1, unless a pass over the memory was saved by leaving it to the optimizer.</summary>
    public double GradientScale { get; set; } = 1;

    /// <summary>Takes another place for the gradient, of the same shape, as it stands there; the old one stays whoever's it is.</summary>
    /// <param name="gradient">Lives as long as it is used here.</param>
    public void TakeGradient(Tensor gradient)
    {
        Gradient = gradient;
        GradientScale = 1;
    }

    /// <summary>The logical parameters of a stored one.</summary>
    /// <param name="parameter">The stored parameter.</param>
    /// <param name="gradient">Of the shape of its value; lives as long as the result is used.</param>
    /// <returns>In the order of <see cref="Parameter.Keys"/>; their tensors are views, outside any scope, whose owner disposes them.</returns>
    public static IEnumerable<LogicalParameter> Of(Parameter parameter, Tensor gradient)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        var experts = parameter.ExpertIds is null ? [null] : parameter.ExpertIds.SelectMany(id => parameter.Parts.Select(_ => (int?)id)).ToArray();
        return
        [
            .. parameter.Logical(parameter.Value).Zip(parameter.Logical(gradient)).Select((pair, i) => new LogicalParameter(
                pair.First.Key,
                parameter.Kind,
                pair.First.Value.Share().Detached(),
                pair.Second.Value.Share().Detached(),
                parameter.Layer,
                experts[parameter.ExpertIds is null ? 0 : i])),
        ];
    }
}
