using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Moe.Torch;

/// <summary>
/// Philox4x32-10: a bijection of 128-bit counters under a 64-bit key whose outputs pass as random words.
/// </summary>
/// <remarks>
/// Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", https://doi.org/10.1145/2063384.2063405.
/// The paper's four 32-bit words are here two of 64 bits, its word 0 lowest.
/// </remarks>
internal static class Philox
{
    /// <summary>Counters that <see cref="Blocks"/> takes at a time.</summary>
    internal const int Lanes = 4;

    private const int Rounds = 10;

    // Multipliers chosen by the authors for diffusion; the key's increments are the golden ratio and sqrt(3) - 1, times 2^32.
    private const uint Multiplier0 = 0xD2511F53, Multiplier1 = 0xCD9E8D57;
    private const uint Increment0 = 0x9E3779B9, Increment1 = 0xBB67AE85;

    /// <summary>The 128 random bits of one counter.</summary>
    internal static UInt128 Block(ulong counterLow, ulong counterHigh, ulong key)
    {
        var (c0, c1) = ((uint)counterLow, (uint)(counterLow >> 32));
        var (c2, c3) = ((uint)counterHigh, (uint)(counterHigh >> 32));
        var (k0, k1) = ((uint)key, (uint)(key >> 32));

        for (var round = 0; round < Rounds; round++)
        {
            var product0 = (ulong)c0 * Multiplier0;
            var product1 = (ulong)c2 * Multiplier1;
            (c0, c1) = ((uint)(product1 >> 32) ^ c1 ^ k0, (uint)product1);
            (c2, c3) = ((uint)(product0 >> 32) ^ c3 ^ k1, (uint)product0);
            unchecked
            {
                k0 += Increment0;
                k1 += Increment1;
            }
        }

        return new UInt128(((ulong)c3 << 32) | c2, ((ulong)c1 << 32) | c0);
    }

    /// <summary>
    /// <see cref="Block"/> for the counters with low halves <paramref name="counterLow"/> to <paramref name="counterLow"/> + 3, one a lane.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static (Vector256<ulong> Low, Vector256<ulong> High) Blocks(ulong counterLow, ulong counterHigh, ulong key)
    {
        // Each lane keeps a 32-bit word in its lower half. What gathers in the upper half is never read: the
        // product takes lower halves, and the upper ones are masked at the end.
        var counters = Vector256.Create(counterLow) + Vector256<ulong>.Indices;
        var (c0, c1) = (counters, counters >>> 32);
        var (c2, c3) = (Vector256.Create(counterHigh), Vector256.Create(counterHigh >> 32));
        var (k0, k1) = ((uint)key, (uint)(key >> 32));

        for (var round = 0; round < Rounds; round++)
        {
            var product0 = MultiplyLowerHalves(c0, Multiplier0);
            var product1 = MultiplyLowerHalves(c2, Multiplier1);
            (c0, c1) = ((product1 >>> 32) ^ c1 ^ Vector256.Create((ulong)k0), product1);
            (c2, c3) = ((product0 >>> 32) ^ c3 ^ Vector256.Create((ulong)k1), product0);
            unchecked
            {
                k0 += Increment0;
                k1 += Increment1;
            }
        }

        var lowerHalf = Vector256.Create((ulong)uint.MaxValue);
        return ((c1 << 32) | (c0 & lowerHalf), (c3 << 32) | (c2 & lowerHalf));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<ulong> MultiplyLowerHalves(Vector256<ulong> x, uint factor) =>
        Avx2.IsSupported
            ? Avx2.Multiply(x.AsUInt32(), Vector256.Create((ulong)factor).AsUInt32())
            : (x & Vector256.Create((ulong)uint.MaxValue)) * factor;
}
