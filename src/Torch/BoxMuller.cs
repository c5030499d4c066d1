using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Moe.Torch;

/// <summary>Turns pairs of independent uniform numbers into pairs of independent standard normal ones.</summary>
/// <remarks>
/// Box and Muller 1958, https://doi.org/10.1214/aoms/1177706645. Logarithm and sine are computed here, by additions,
/// products, one quotient and one root in a fixed order: IEEE 754 gives these the same bits on every machine, which
/// the mathematical library of a system does not promise. Both are within 4 units of the last place of the true value.
/// </remarks>
internal static class BoxMuller
{
    private const long One = 0x3FF0000000000000;         // the bits of 1.0
    private const long SquareRootOfHalf = 0x3FE6A09E667F3BCD;
    private const long TwoTo52 = 0x4330000000000000;     // the bits of 2^52, whose last place is worth 1
    private const long MantissaMask = 0x000FFFFFFFFFFFFF;

    /// <param name="u">In [0, 1 - 2^-52].</param>
    /// <param name="v">In [0, 1), a multiple of 2^-52.</param>
    /// <returns>sqrt(-2 ln(1 - u)) times cos(2 pi v) and sin(2 pi v); no value is beyond 8.5.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static (Vector256<double> First, Vector256<double> Second) Normals(Vector256<double> u, Vector256<double> v)
    {
        var radius = Vector256.Sqrt(Log(Vector256<double>.One - u) * -2.0);
        var (sine, cosine) = SinCosOfTurns(v);
        return (radius * cosine, radius * sine);
    }

    /// <summary>Natural logarithm of normal positive numbers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<double> Log(Vector256<double> x)
    {
        // x = 2^exponent m with m in [sqrt(1/2), sqrt(2)): the offset carries into the exponent where the mantissa is beyond sqrt(2).
        var bits = x.AsInt64() + Vector256.Create(One - SquareRootOfHalf);
        var biasedExponent = ((bits >>> 52) | Vector256.Create(TwoTo52)).AsDouble();
        var exponent = biasedExponent - Vector256.Create(4503599627370496.0 + 1023.0);
        var m = ((bits & Vector256.Create(MantissaMask)) + Vector256.Create(SquareRootOfHalf)).AsDouble();

        // ln m = 2 artanh(s) = 2 s (1 + s^2/3 + s^4/5 + ...); s^2 < 0.0295, so the first term left out is below 1e-18 of the sum.
        var s = (m - Vector256<double>.One) / (m + Vector256<double>.One);
        var z = s * s;
        var tail = Vector256.Create(1.0 / 21);
        tail = tail * z + Vector256.Create(1.0 / 19);
        tail = tail * z + Vector256.Create(1.0 / 17);
        tail = tail * z + Vector256.Create(1.0 / 15);
        tail = tail * z + Vector256.Create(1.0 / 13);
        tail = tail * z + Vector256.Create(1.0 / 11);
        tail = tail * z + Vector256.Create(1.0 / 9);
        tail = tail * z + Vector256.Create(1.0 / 7);
        tail = tail * z + Vector256.Create(1.0 / 5);
        tail = tail * z + Vector256.Create(1.0 / 3);
        return exponent * 0.6931471805599453 + (s + s * z * tail) * 2.0;
    }

    /// <summary>sin(2 pi v) and cos(2 pi v) of multiples v of 2^-52 in [0, 1).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static (Vector256<double> Sine, Vector256<double> Cosine) SinCosOfTurns(Vector256<double> v)
    {
        // Adding 2^52 rounds 4v to the nearest quarter turn and leaves its number in the last bits; the rest is exact, in [-1/8, 1/8].
        var twoTo52 = Vector256.Create(TwoTo52).AsDouble();
        var shifted = v * 4.0 + twoTo52;
        var quarter = shifted.AsInt64();
        var angle = (v - (shifted - twoTo52) * 0.25) * (2 * Math.PI);

        // Taylor series on [-pi/4, pi/4]; the first terms left out are x^19/19! < 9e-20 and x^18/18! < 3e-18.
        var z = angle * angle;
        var sineTail = Vector256.Create(1.0 / 355687428096000); // 1/17!
        sineTail = sineTail * z - Vector256.Create(1.0 / 1307674368000);
        sineTail = sineTail * z + Vector256.Create(1.0 / 6227020800);
        sineTail = sineTail * z - Vector256.Create(1.0 / 39916800);
        sineTail = sineTail * z + Vector256.Create(1.0 / 362880);
        sineTail = sineTail * z - Vector256.Create(1.0 / 5040);
        sineTail = sineTail * z + Vector256.Create(1.0 / 120);
        sineTail = sineTail * z - Vector256.Create(1.0 / 6);
        var sine = angle + angle * z * sineTail;

        var cosineTail = Vector256.Create(1.0 / 20922789888000); // 1/16!
        cosineTail = cosineTail * z - Vector256.Create(1.0 / 87178291200);
        cosineTail = cosineTail * z + Vector256.Create(1.0 / 479001600);
        cosineTail = cosineTail * z - Vector256.Create(1.0 / 3628800);
        cosineTail = cosineTail * z + Vector256.Create(1.0 / 40320);
        cosineTail = cosineTail * z - Vector256.Create(1.0 / 720);
        cosineTail = cosineTail * z + Vector256.Create(1.0 / 24);
        cosineTail = cosineTail * z - Vector256.Create(0.5);
        var cosine = Vector256<double>.One + z * cosineTail;

        // Odd quarters exchange the two; the sine is negative in quarters 2 and 3, the cosine in 1 and 2.
        var isOdd = Vector256.Equals(quarter & Vector256<long>.One, Vector256<long>.One).AsDouble();
        var sineSign = (quarter << 62) & Vector256.Create(long.MinValue);
        var cosineSign = ((quarter + Vector256<long>.One) << 62) & Vector256.Create(long.MinValue);
        return (
            Vector256.Xor(Vector256.ConditionalSelect(isOdd, cosine, sine), sineSign.AsDouble()),
            Vector256.Xor(Vector256.ConditionalSelect(isOdd, sine, cosine), cosineSign.AsDouble()));
    }
}
