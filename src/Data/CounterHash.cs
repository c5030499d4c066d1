using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Moe.Data;

/// <summary>Random 64-bit values as a function of keys and counters: no state, hence random access.</summary>
internal static class CounterHash
{
    private const ulong Golden = 0x9E3779B97F4A7C15; // 2^64 / golden ratio, odd: SplitMix64's increment

    /// <summary>A new key for the <paramref name="counter"/>th value, or sub-stream, under <paramref name="key"/>.</summary>
    public static ulong Derive(ulong key, ulong counter) => Mix(key + Mix(counter + Golden));

    public static ulong Derive(ulong key, string name)
    {
        Span<byte> digest = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(Encoding.UTF8.GetBytes(name), digest);
        return Derive(key, BinaryPrimitives.ReadUInt64LittleEndian(digest));
    }

    /// <returns>A value in [0, <paramref name="bound"/>), uniform but for a bias below bound / 2^64.</returns>
    public static long Below(ulong hash, long bound) => (long)Math.BigMul(hash, (ulong)bound, out _);

    // The finaliser of SplitMix64 (Steele, Lea, Flood 2014, https://doi.org/10.1145/2660193.2660195): a bijection of 64 bits.
    private static ulong Mix(ulong x)
    {
        x += Golden;
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
        return x ^ (x >> 31);
    }
}
