using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>
/// Rotary embedding, causal attention and the way back to rows, from the fused projection. Query heads share key and value heads in
/// groups: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245.
/// </summary>
/// <remarks>
/// Shapes: B sequences of S tokens, H query heads in K groups of G = H / K, h numbers a head. The fused projection is
/// [B S, (H + 2K) h]: queries, then keys, then values. The result is [B S, H h].
/// In host memory it is one operation that works block by block and keeps one number a query for backward; on a GPU the heads are turned
/// by one pass and libtorch attends. In neither the scores [S, S] stand whole. bfloat16 is worked in float32.
/// </remarks>
public sealed class CausalAttention : Function
{
    private readonly RotaryTable _rotary;
    private readonly int _heads;
    private readonly int _keyValueHeads;
    private readonly int _length;
    private (Tensor Cosine, Tensor Sine) _angles;
    private Tensor? _projection;
    private Tensor? _output;
    private Tensor? _logSums; // [B, H, S]

    private CausalAttention(RotaryTable rotary, int heads, int keyValueHeads, int length) =>
        (_rotary, _heads, _keyValueHeads, _length) = (rotary, heads, keyValueHeads, length);

    /// <summary>Attends from every token to itself and those before it in its sequence.</summary>
    /// <param name="projection">[B S, (H + 2K) h], without gaps: queries, keys, values.</param>
    /// <param name="rotary">Holds at least S positions, and outlives the backward.</param>
    /// <param name="heads">H.</param>
    /// <param name="keyValueHeads">K; divides H.</param>
    /// <param name="length">S, at least 1; divides the rows.</param>
    /// <returns>[B S, H h], in the type of the projection.</returns>
    public static Tensor Apply(Tensor projection, RotaryTable rotary, int heads, int keyValueHeads, int length) =>
        projection.Device.IsCuda && projection.Size(0) > 0
            ? ByLibrary(projection, rotary, heads, keyValueHeads, length)
            : new CausalAttention(rotary, heads, keyValueHeads, length).Apply(projection)[0];

    /// <summary>The same by recorded operators, with key and value heads repeated: the oracle of the tests.</summary>
    public static Tensor Reference(Tensor projection, RotaryTable rotary, int heads, int keyValueHeads, int length)
    {
        var (sequences, width) = (projection.Size(0) / length, rotary.HeadWidth);
        var parts = projection.View(sequences, length, heads + 2 * keyValueHeads, width).Transpose(1, 2).Split([heads, keyValueHeads, keyValueHeads], 1);
        var (query, key, value) = (rotary.Reference(parts[0]), Repeat(rotary.Reference(parts[1])), Repeat(parts[2]));
        var future = Tensor.Ones([length, length], projection.DType, projection.Device).UpperTriangle(1).IsEqual(1);
        var scores = query.MatMul(key.Transpose()).Divide(Math.Sqrt(width)).MaskedFill(future, double.NegativeInfinity);
        return scores.Softmax(-1).MatMul(value).Transpose(1, 2).Reshape(sequences * length, heads * width);

        Tensor Repeat(Tensor shared) => shared.Unsqueeze(2).Expand(sequences, keyValueHeads, heads / keyValueHeads, length, width)
            .Reshape(sequences, heads, length, width);
    }

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        using var scope = new TensorScope();
        var projection = inputs[0];
        if (projection.Device.IsCuda)
        {
            return [scope.Keep(projection.NewEmpty([0, _heads * _rotary.HeadWidth]))]; // no token: the library's kernels refuse that
        }

        _angles = _rotary.For(projection.Device, projection.DType.Work());
        var (output, logSums) = AttentionKernel.Forward(projection, _angles.Cosine, _angles.Sine, _heads, _keyValueHeads, _length);
        (_projection, _output, _logSums) = (Save(projection), Save(output), Save(logSums));
        return [scope.Keep(output)];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var arriving = outputGradients[0]!.Contiguous();
        return arriving.Device.IsCuda
            ? [arriving.NewEmpty([0, (_heads + 2 * _keyValueHeads) * _rotary.HeadWidth])]
            : [AttentionKernel.Backward(
                _projection!, _angles.Cosine, _angles.Sine, _heads, _keyValueHeads, _length, _output!, _logSums!, arriving)];
    }

    // Heads are views [B, H, S, h] of [B, S, H, h]. Flash attention answers in its query's layout, so that the way back to rows copies nothing.
    private static Tensor ByLibrary(Tensor projection, RotaryTable rotary, int heads, int keyValueHeads, int length)
    {
        var (query, key, value) = RotaryHeads.Apply(projection, rotary, heads, keyValueHeads, length);
        var mixed = LinearAlgebra.CausalAttention(query.Transpose(1, 2), key.Transpose(1, 2), value.Transpose(1, 2));
        return mixed.Transpose(1, 2).Reshape(projection.Size(0), heads * rotary.HeadWidth);
    }
}
