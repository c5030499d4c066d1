using System.Numerics;
using System.Runtime.InteropServices;
using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Loops over whole rows that a list of places picks: one pass over memory each, where a chain of operators takes several.</summary>
/// <remarks>
/// Shapes: T tokens, k slots, N rows, D width; a pair is token * k + slot. Sums are in float32, or in float64 for float64 rows, and
/// are written in the type of the rows.
/// </remarks>
internal static unsafe class RowKernels
{
    /// <summary>source [n, D] -> [m, D]: result[i] = source[places[i] / divisor].</summary>
    public static Tensor Gather(Tensor source, ReadOnlySpan<int> places, int divisor = 1)
    {
        using var packed = source.Contiguous();
        var result = Tensor.Empty([places.Length, source.Size(1)], source.DType);
        var rowBytes = source.Size(1) * source.DType.Size();
        var from = (byte*)packed.DataPointer;
        var to = (byte*)result.DataPointer;
        foreach (var place in places)
        {
            Buffer.MemoryCopy(from + (place / divisor * rowBytes), to, rowBytes, rowBytes);
            to += rowBytes;
        }

        return result;
    }

    /// <summary>tokens [T, D], weights [T, k] -> [N, D]: result[i] = weights[pairs[i]] * tokens[pairs[i] / k].</summary>
    public static Tensor GatherScaled(Tensor tokens, Tensor weights, ReadOnlySpan<int> pairs, int slots)
    {
        using var scope = new TensorScope();
        var type = SumType(tokens);
        var result = Tensor.Empty([pairs.Length, tokens.Size(1)], type);
        var (from, by) = (As(tokens, type), As(weights, type));
        if (type == DType.Float64)
        {
            GatherScaled<double>(from, by, pairs, slots, result);
        }
        else
        {
            GatherScaled<float>(from, by, pairs, slots, result);
        }

        return scope.Keep(result.To(tokens.DType));
    }

    /// <summary>rows [N, D] -> [T, D]: result[t] = sum over s, ascending, of weights[t, s] * rows[places[t * k + s]], negative places left out.</summary>
    public static Tensor SumGathered(Tensor rows, Tensor? weights, ReadOnlySpan<int> places, int slots)
    {
        using var scope = new TensorScope();
        var type = SumType(rows);
        var result = Tensor.Zeros([places.Length / slots, rows.Size(1)], type);
        var (from, by) = (As(rows, type), weights is null ? null : As(weights, type));
        if (type == DType.Float64)
        {
            SumGathered<double>(from, by, places, slots, result);
        }
        else
        {
            SumGathered<float>(from, by, places, slots, result);
        }

        return scope.Keep(result.To(rows.DType));
    }

    /// <summary>tokens [T, D], rows [N, D] -> [T, k]: result[t, s] = tokens[t] . rows[places[t * k + s]]; 0 at negative places.</summary>
    /// <returns>In the type of the sum.</returns>
    public static Tensor DotGathered(Tensor tokens, Tensor rows, ReadOnlySpan<int> places, int slots)
    {
        using var scope = new TensorScope();
        var type = SumType(rows);
        var result = Tensor.Zeros([places.Length / slots, slots], type);
        var (left, right) = (As(tokens, type), As(rows, type));
        if (type == DType.Float64)
        {
            DotGathered<double>(left, right, places, slots, result);
        }
        else
        {
            DotGathered<float>(left, right, places, slots, result);
        }

        return scope.Keep(result);
    }

    private static DType SumType(Tensor rows) => rows.DType == DType.Float64 ? DType.Float64 : DType.Float32;

    private static Tensor As(Tensor x, DType type) => x.To(type).Contiguous();

    private static void GatherScaled<T>(Tensor tokens, Tensor weights, ReadOnlySpan<int> pairs, int slots, Tensor result)
        where T : unmanaged, INumber<T>
    {
        var width = (int)tokens.Size(1);
        var from = (T*)tokens.DataPointer;
        var by = (T*)weights.DataPointer;
        var to = (T*)result.DataPointer;
        foreach (var pair in pairs)
        {
            Scale(new Span<T>(to, width), Row(from, pair / slots, width), by[pair]);
            to += width;
        }
    }

    private static void SumGathered<T>(Tensor rows, Tensor? weights, ReadOnlySpan<int> places, int slots, Tensor result)
        where T : unmanaged, INumber<T>
    {
        var width = (int)rows.Size(1);
        var from = (T*)rows.DataPointer;
        var by = weights is null ? null : (T*)weights.DataPointer;
        var to = (T*)result.DataPointer;
        for (var pair = 0; pair < places.Length; pair++)
        {
            if (places[pair] >= 0)
            {
                var sum = new Span<T>(to + ((long)(pair / slots) * width), width);
                AddScaled(sum, Row(from, places[pair], width), by is null ? T.One : by[pair]);
            }
        }
    }

    private static void DotGathered<T>(Tensor tokens, Tensor rows, ReadOnlySpan<int> places, int slots, Tensor result)
        where T : unmanaged, INumber<T>
    {
        var width = (int)rows.Size(1);
        var left = (T*)tokens.DataPointer;
        var right = (T*)rows.DataPointer;
        var to = (T*)result.DataPointer;
        for (var pair = 0; pair < places.Length; pair++)
        {
            if (places[pair] >= 0)
            {
                to[pair] = Dot(Row(left, pair / slots, width), Row(right, places[pair], width));
            }
        }
    }

    private static ReadOnlySpan<T> Row<T>(T* rows, int index, int width)
        where T : unmanaged => new(rows + ((long)index * width), width);

    private static void Scale<T>(Span<T> result, ReadOnlySpan<T> row, T weight)
        where T : unmanaged, INumber<T>
    {
        var to = MemoryMarshal.Cast<T, Vector<T>>(result);
        var from = MemoryMarshal.Cast<T, Vector<T>>(row);
        for (var i = 0; i < from.Length; i++)
        {
            to[i] = from[i] * weight;
        }

        for (var i = from.Length * Vector<T>.Count; i < row.Length; i++)
        {
            result[i] = row[i] * weight;
        }
    }

    private static void AddScaled<T>(Span<T> sum, ReadOnlySpan<T> row, T weight)
        where T : unmanaged, INumber<T>
    {
        var to = MemoryMarshal.Cast<T, Vector<T>>(sum);
        var from = MemoryMarshal.Cast<T, Vector<T>>(row);
        for (var i = 0; i < from.Length; i++)
        {
            to[i] += from[i] * weight;
        }

        for (var i = from.Length * Vector<T>.Count; i < row.Length; i++)
        {
            sum[i] += row[i] * weight;
        }
    }

    private static T Dot<T>(ReadOnlySpan<T> x, ReadOnlySpan<T> y)
        where T : unmanaged, INumber<T>
    {
        var left = MemoryMarshal.Cast<T, Vector<T>>(x);
        var right = MemoryMarshal.Cast<T, Vector<T>>(y);
        var sums = Vector<T>.Zero;
        for (var i = 0; i < left.Length; i++)
        {
            sums += left[i] * right[i];
        }

        var sum = Vector.Sum(sums);
        for (var i = left.Length * Vector<T>.Count; i < x.Length; i++)
        {
            sum += x[i] * y[i];
        }

        return sum;
    }
}
