using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>From the fused projection to heads, queries and keys turned by their positions' angles, in one pass each way.</summary>
/// <remarks>
/// Shapes: B sequences of S tokens, H query heads, K key and value heads, h numbers a head; projection [B S, (H + 2K) h]: queries, keys,
/// values; query [B, S, H, h], key and value [B, S, K, h]. Nothing is kept for backward.
/// </remarks>
public sealed class RotaryHeads : Function
{
    private readonly RotaryTable _rotary;
    private readonly int _heads;
    private readonly int _keyValueHeads;
    private readonly int _length;
    private (Tensor Cosine, Tensor Sine) _angles;
    private long _sequences;

    private RotaryHeads(RotaryTable rotary, int heads, int keyValueHeads, int length) =>
        (_rotary, _heads, _keyValueHeads, _length) = (rotary, heads, keyValueHeads, length);

    /// <summary>The heads of a projection.</summary>
    /// <param name="projection">[B S, (H + 2K) h], without gaps.</param>
    /// <param name="rotary">Holds at least S positions, and outlives the backward.</param>
    /// <param name="heads">H.</param>
    /// <param name="keyValueHeads">K.</param>
    /// <param name="length">S, at least 1; divides the rows.</param>
    public static (Tensor Query, Tensor Key, Tensor Value) Apply(Tensor projection, RotaryTable rotary, int heads, int keyValueHeads, int length) =>
        new RotaryHeads(rotary, heads, keyValueHeads, length).Apply(projection) is [var query, var key, var value]
            ? (query, key, value)
            : throw new InvalidOperationException("three tensors");

    /// <summary>The same by recorded operators: the oracle of the tests.</summary>
    public static (Tensor Query, Tensor Key, Tensor Value) Reference(
        Tensor projection, RotaryTable rotary, int heads, int keyValueHeads, int length)
    {
        var parts = projection.View(projection.Size(0) / length, length, heads + 2 * keyValueHeads, rotary.HeadWidth)
            .Split([heads, keyValueHeads, keyValueHeads], 2);
        return (Turned(parts[0]), Turned(parts[1]), parts[2]);

        Tensor Turned(Tensor part) => rotary.Reference(part.Transpose(1, 2)).Transpose(1, 2);
    }

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        _angles = _rotary.For(inputs[0].Device, inputs[0].DType.Work());
        _sequences = inputs[0].Size(0) / _length;
        var (query, key, value) = RotaryKernel.Forward(inputs[0], _angles.Cosine, _angles.Sine, _heads, _keyValueHeads, _length);
        return [query, key, value];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var given = Array.Find(outputGradients, gradient => gradient is not null)!;
        return [RotaryKernel.Backward(Of(0, _heads), Of(1, _keyValueHeads), Of(2, _keyValueHeads), _angles.Cosine, _angles.Sine)];

        Tensor Of(int output, int heads) =>
            outputGradients[output]?.Contiguous() ?? given.NewZeros([_sequences, _length, heads, _rotary.HeadWidth]);
    }
}
