using Moe.Torch;

namespace Moe.Models;

/// <summary>The identity behind a linear layer, whose backward adds the layer's rows to their sums: a forward without backward adds nothing.</summary>
internal sealed class RowSumTap : Function
{
    private readonly RowSums _sums;
    private Tensor _input;

    private RowSumTap(Tensor input, RowSums sums) => (_input, _sums) = (input, sums);

    /// <summary>The values of <paramref name="output"/> [R, O], on the graph behind it.</summary>
    /// <param name="input">[R, I]: the layer's rows.</param>
    /// <param name="output">[R, O]: what the layer made of them.</param>
    /// <param name="sums">Of the layer's weight.</param>
    internal static Tensor Apply(Tensor input, Tensor output, RowSums sums) => new RowSumTap(input, sums).Apply(output)[0];

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        _input = Save(_input);
        return [inputs[0].Clone()];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        if (outputGradients[0] is { } gradient)
        {
            _sums.Add(_input, gradient, [_input.Size(0)]);
        }

        return [outputGradients[0]];
    }
}
