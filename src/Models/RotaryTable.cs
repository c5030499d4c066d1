using System.Numerics;
using Moe.Torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Moe.Models;

/// <summary>
/// Angles of the rotary position embedding: at position p the pair (x[i], x[i + h/2]) of a head of width h turns by p * base^(-2i/h).
/// A query and a key then meet at an angle that depends on the distance between them only: Su et al. 2021, https://arxiv.org/abs/2104.09864.
/// </summary>
/// <remarks>The pairing of GPT-NeoX and Llama. Angles are computed in double precision, whatever type they turn.</remarks>
public sealed class RotaryTable
{
    private readonly Angles<float> _single;
    private readonly Angles<double> _double;

    /// <param name="positions">Positions 0 ... positions - 1 are held.</param>
    /// <param name="headWidth">Even.</param>
    /// <param name="wavelengthBase">Above 1.</param>
    public RotaryTable(int positions, int headWidth, double wavelengthBase)
    {
        (Positions, HeadWidth) = (positions, headWidth);
        var pairs = headWidth / 2;
        var angles = new double[positions * pairs];
        for (var i = 0; i < angles.Length; i++)
        {
            angles[i] = i / pairs * Math.Pow(wavelengthBase, -2.0 * (i % pairs) / headWidth);
        }

        _double = new Angles<double>(Array.ConvertAll(angles, Math.Cos), Array.ConvertAll(angles, Math.Sin), pairs);
        _single = new Angles<float>(Array.ConvertAll(_double.Cosines, c => (float)c), Array.ConvertAll(_double.Sines, s => (float)s), pairs);
    }

    /// <summary>Positions that the table holds.</summary>
    public int Positions { get; }

    /// <summary>Numbers in a head.</summary>
    public int HeadWidth { get; }

    /// <summary>The same by recorded operators: the oracle of the tests, and the form for devices without a kernel.</summary>
    /// <param name="heads">[..., S, h], positions 0 ... S - 1.</param>
    public Tensor Reference(Tensor heads)
    {
        var (length, pairs) = (heads.Size(-2), HeadWidth / 2);
        var (x, y) = (heads.Narrow(-1, 0, pairs), heads.Narrow(-1, pairs, pairs));
        var cosine = Tensor.From(_double.Cosines, Positions, pairs).Narrow(0, 0, length).To(heads.DType);
        var sine = Tensor.From(_double.Sines, Positions, pairs).Narrow(0, 0, length).To(heads.DType);
        return Shaping.Concatenate([x * cosine - y * sine, y * cosine + x * sine], -1);
    }

    /// <summary>The angles in the element type <typeparamref name="T"/>: float or double.</summary>
    internal Angles<T> Of<T>()
        where T : unmanaged, IFloatingPointIeee754<T> => typeof(T) == typeof(float) ? (Angles<T>)(object)_single : (Angles<T>)(object)_double;

    /// <summary>Cosines and sines [positions, pairs], and the turn itself.</summary>
    internal sealed record Angles<T>(T[] Cosines, T[] Sines, int Pairs)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        private readonly T[] _negativeSines = Array.ConvertAll(Sines, sine => -sine);

        /// <summary>Turns one head forward by the angles of a position; <paramref name="turned"/> is another place than <paramref name="head"/>.</summary>
        internal void Turn(ReadOnlySpan<T> head, Span<T> turned, int position) => Turn(head, turned, position, Sines, _negativeSines);

        /// <summary>Turns one head back: the inverse, and the gradient, of <see cref="Turn(ReadOnlySpan{T}, Span{T}, int)"/>.</summary>
        internal void TurnBack(ReadOnlySpan<T> head, Span<T> turned, int position) => Turn(head, turned, position, _negativeSines, Sines);

        private void Turn(ReadOnlySpan<T> head, Span<T> turned, int position, T[] sines, T[] negativeSines)
        {
            var place = new Range(position * Pairs, (position + 1) * Pairs);
            var cosine = Cosines.AsSpan(place);
            var x = head[..Pairs];
            var y = head[Pairs..];
            var turnedX = turned[..Pairs];
            var turnedY = turned[Pairs..];
            TensorPrimitives.Multiply(y, negativeSines.AsSpan(place), turnedX);
            TensorPrimitives.MultiplyAdd(x, cosine, turnedX, turnedX);
            TensorPrimitives.Multiply(x, sines.AsSpan(place), turnedY);
            TensorPrimitives.MultiplyAdd(y, cosine, turnedY, turnedY);
        }
    }
}
