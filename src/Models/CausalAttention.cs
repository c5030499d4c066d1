using System.Numerics;
using Moe.Torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Moe.Models;

/// <summary>
/// Rotary embedding, causal attention and the way back to rows, as one operation on the fused projection. Query heads share key and
/// value heads in groups: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245.
/// </summary>
/// <remarks>
/// Shapes: B sequences of S tokens, H query heads in K groups of G = H / K, h numbers a head. The fused projection is
/// [B S, (H + 2K) h]: queries, then keys, then values. The result is [B S, H h].
/// One sequence is worked at a time, so that its scores [K, G S, S] stay in the cache; they are computed again in backward
/// instead of kept, hence memory grows with the number of tokens, not with its square. bfloat16 is worked in float32.
/// </remarks>
public sealed class CausalAttention : Function
{
    private readonly RotaryTable _rotary;
    private readonly int _keyValueHeads;
    private readonly int _group;
    private readonly int _length;
    private readonly int _width;
    private Tensor? _query; // [B, K, G S, h], turned, times 1 / sqrt(h)
    private Tensor? _key; // [B, K, S, h], turned
    private Tensor? _value; // [B, K, S, h]

    private CausalAttention(RotaryTable rotary, int heads, int keyValueHeads, int length) =>
        (_rotary, _keyValueHeads, _group, _length, _width) = (rotary, keyValueHeads, heads / keyValueHeads, length, rotary.HeadWidth);

    private int Heads => _keyValueHeads * _group;

    private int RowWidth => (Heads + 2 * _keyValueHeads) * _width;

    /// <summary>Attends from every token to itself and those before it in its sequence.</summary>
    /// <param name="projection">[B S, (H + 2K) h], without gaps: queries, keys, values.</param>
    /// <param name="rotary">Holds at least S positions.</param>
    /// <param name="heads">H.</param>
    /// <param name="keyValueHeads">K; divides H.</param>
    /// <param name="length">S, at least 1; divides the rows.</param>
    /// <returns>[B S, H h], in the type of the projection.</returns>
    public static Tensor Apply(Tensor projection, RotaryTable rotary, int heads, int keyValueHeads, int length) =>
        new CausalAttention(rotary, heads, keyValueHeads, length).Apply(projection)[0];

    /// <summary>The same by recorded operators, with key and value heads repeated: the oracle of the tests.</summary>
    public static Tensor Reference(Tensor projection, RotaryTable rotary, int heads, int keyValueHeads, int length)
    {
        var (sequences, width) = (projection.Size(0) / length, rotary.HeadWidth);
        var parts = projection.View(sequences, length, heads + 2 * keyValueHeads, width).Transpose(1, 2).Split([heads, keyValueHeads, keyValueHeads], 1);
        var (query, key, value) = (rotary.Reference(parts[0]), Repeat(rotary.Reference(parts[1])), Repeat(parts[2]));
        var future = Tensor.Ones([length, length], projection.DType).UpperTriangle(1).IsEqual(1);
        var scores = query.MatMul(key.Transpose()).Divide(Math.Sqrt(width)).MaskedFill(future, double.NegativeInfinity);
        return scores.Softmax(-1).MatMul(value).Transpose(1, 2).Reshape(sequences * length, heads * width);

        Tensor Repeat(Tensor shared) => shared.Unsqueeze(2).Expand(sequences, keyValueHeads, heads / keyValueHeads, length, width)
            .Reshape(sequences, heads, length, width);
    }

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        using var scope = new TensorScope();
        var projection = inputs[0].To(Wide(inputs[0].DType));
        var output = Tensor.Empty([projection.Size(0), Heads * _width], projection.DType);
        if (projection.DType == DType.Float64)
        {
            Forward<double>(projection, output);
        }
        else
        {
            Forward<float>(projection, output);
        }

        return [scope.Keep(output.To(inputs[0].DType))];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var narrow = outputGradients[0]!.DType;
        var arriving = outputGradients[0]!.To(_query!.DType).Contiguous();
        var gradient = Tensor.Empty([arriving.Size(0), RowWidth], arriving.DType);
        if (arriving.DType == DType.Float64)
        {
            Backward<double>(arriving, gradient);
        }
        else
        {
            Backward<float>(arriving, gradient);
        }

        return [gradient.To(narrow)];
    }

    private static DType Wide(DType dtype) => dtype == DType.BFloat16 ? DType.Float32 : dtype;

    // Row i of a square sees columns 0 ... i; the others become exactly 0.
    private static void CausalSoftmax<T>(Span<T> scores, int length)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        for (var row = 0; row < scores.Length / length; row++)
        {
            var seen = scores.Slice(row * length, row % length + 1);
            TensorPrimitives.Subtract(seen, TensorPrimitives.Max<T>(seen), seen);
            TensorPrimitives.Exp<T>(seen, seen);
            TensorPrimitives.Multiply(seen, T.One / TensorPrimitives.Sum<T>(seen), seen);
            scores.Slice(row * length + seen.Length, length - seen.Length).Clear();
        }
    }

    // gradient := p * (gradient - sum(p * gradient)), the gradient of the scores.
    private static void CausalSoftmaxBackward<T>(ReadOnlySpan<T> probabilities, Span<T> gradient, int length)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        for (var row = 0; row < gradient.Length / length; row++)
        {
            var (start, seen) = (row * length, row % length + 1);
            var p = probabilities.Slice(start, seen);
            var g = gradient.Slice(start, seen);
            TensorPrimitives.Subtract(g, TensorPrimitives.Dot(p, g), g);
            TensorPrimitives.Multiply(g, p, g);
            gradient.Slice(start + seen, length - seen).Clear();
        }
    }

    private void Forward<T>(Tensor projection, Tensor output)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var sequences = projection.Size(0) / _length;
        var (query, key, value) = (Empty(sequences, Heads), Empty(sequences, _keyValueHeads), Empty(sequences, _keyValueHeads));
        Unpack<T>(projection, query, key, value);
        var scores = Tensor.Empty([_keyValueHeads, _group * _length, _length], projection.DType);
        var mixed = Tensor.Empty([_keyValueHeads, _group * _length, _width], projection.DType);
        for (var sequence = 0; sequence < sequences; sequence++)
        {
            using var scope = new TensorScope();
            query.Select(0, sequence).BatchMatMulInto(key.Select(0, sequence).Transpose(), scores);
            CausalSoftmax(scores.Span<T>(), _length);
            scores.BatchMatMulInto(value.Select(0, sequence), mixed);
            ToRows<T>(mixed.Span<T>(), output.Span<T>().Slice(sequence * _length * Heads * _width));
        }

        (_query, _key, _value) = (Save(query), Save(key), Save(value));

        Tensor Empty(long sequences, int heads) =>
            Tensor.Empty([sequences, _keyValueHeads, heads / _keyValueHeads * _length, _width], projection.DType);
    }

    private void Backward<T>(Tensor arriving, Tensor gradient)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var dtype = arriving.DType;
        var (groupShape, sharedShape) = (new long[] { _keyValueHeads, _group * _length, _width }, new long[] { _keyValueHeads, _length, _width });
        var (probabilities, scoresGradient) = (Tensor.Empty([_keyValueHeads, _group * _length, _length], dtype), Tensor.Empty([_keyValueHeads, _group * _length, _length], dtype));
        var (mixedGradient, queryGradient) = (Tensor.Empty(groupShape, dtype), Tensor.Empty(groupShape, dtype));
        var (keyGradient, valueGradient) = (Tensor.Empty(sharedShape, dtype), Tensor.Empty(sharedShape, dtype));
        for (var sequence = 0; sequence < _query!.Size(0); sequence++)
        {
            using var scope = new TensorScope();
            var (query, key, value) = (_query.Select(0, sequence), _key!.Select(0, sequence), _value!.Select(0, sequence));
            query.BatchMatMulInto(key.Transpose(), probabilities);
            CausalSoftmax(probabilities.Span<T>(), _length);
            FromRows<T>(arriving.Span<T>().Slice(sequence * _length * Heads * _width), mixedGradient.Span<T>());
            probabilities.Transpose().BatchMatMulInto(mixedGradient, valueGradient);
            mixedGradient.BatchMatMulInto(value.Transpose(), scoresGradient);
            CausalSoftmaxBackward<T>(probabilities.Span<T>(), scoresGradient.Span<T>(), _length);
            scoresGradient.BatchMatMulInto(key, queryGradient);
            scoresGradient.Transpose().BatchMatMulInto(query, keyGradient);
            var rows = gradient.Span<T>().Slice(sequence * _length * RowWidth, _length * RowWidth);
            Pack(queryGradient.Span<T>(), keyGradient.Span<T>(), valueGradient.Span<T>(), rows);
        }
    }

    // From rows of the projection to heads: queries and keys turned, queries scaled.
    private void Unpack<T>(Tensor projection, Tensor query, Tensor key, Tensor value)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var rows = projection.Span<T>();
        var queries = query.Span<T>();
        var keys = key.Span<T>();
        var values = value.Span<T>();
        var (angles, scale) = (_rotary.Of<T>(), T.One / T.Sqrt(T.CreateTruncating(_width)));
        for (var token = 0; token < projection.Size(0); token++)
        {
            var (sequence, position) = Math.DivRem(token, _length);
            for (var head = 0; head < RowWidth / _width; head++)
            {
                var from = rows.Slice((token * (RowWidth / _width) + head) * _width, _width);
                if (head < Heads)
                {
                    var to = queries.Slice(((sequence * Heads + head) * _length + position) * _width, _width);
                    angles.Turn(from, to, position);
                    TensorPrimitives.Multiply(to, scale, to);
                }
                else if (head < Heads + _keyValueHeads)
                {
                    angles.Turn(from, keys.Slice(((sequence * _keyValueHeads + head - Heads) * _length + position) * _width, _width), position);
                }
                else
                {
                    from.CopyTo(values.Slice(((sequence * _keyValueHeads + head - Heads - _keyValueHeads) * _length + position) * _width, _width));
                }
            }
        }
    }

    // The gradient of Unpack, for one sequence.
    private void Pack<T>(Span<T> query, Span<T> key, Span<T> value, Span<T> rows)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var (angles, scale) = (_rotary.Of<T>(), T.One / T.Sqrt(T.CreateTruncating(_width)));
        for (var position = 0; position < _length; position++)
        {
            var row = rows.Slice(position * RowWidth, RowWidth);
            for (var head = 0; head < Heads; head++)
            {
                var to = row.Slice(head * _width, _width);
                angles.TurnBack(query.Slice((head * _length + position) * _width, _width), to, position);
                TensorPrimitives.Multiply(to, scale, to);
            }

            for (var head = 0; head < _keyValueHeads; head++)
            {
                var place = new Range((head * _length + position) * _width, (head * _length + position + 1) * _width);
                angles.TurnBack(key[place], row.Slice((Heads + head) * _width, _width), position);
                value[place].CopyTo(row.Slice((Heads + _keyValueHeads + head) * _width, _width));
            }
        }
    }

    // [H, S, h] -> [S, H h].
    private void ToRows<T>(ReadOnlySpan<T> heads, Span<T> rows)
    {
        for (var i = 0; i < Heads * _length; i++)
        {
            var (head, position) = Math.DivRem(i, _length);
            heads.Slice(i * _width, _width).CopyTo(rows.Slice((position * Heads + head) * _width));
        }
    }

    // [S, H h] -> [H, S, h].
    private void FromRows<T>(ReadOnlySpan<T> rows, Span<T> heads)
    {
        for (var i = 0; i < Heads * _length; i++)
        {
            var (head, position) = Math.DivRem(i, _length);
            rows.Slice((position * Heads + head) * _width, _width).CopyTo(heads.Slice(i * _width));
        }
    }
}
