using System.Numerics;

namespace Moe.Data;

/// <summary>A random order of 0 to Count - 1 in constant memory and time per access.</summary>
/// <remarks>
/// A balanced Feistel network over the next even power of two, walked along its cycle until it lands below Count
/// (Black and Rogaway 2002, https://doi.org/10.1007/3-540-45760-7_9); fewer than four passes on average.
/// </remarks>
internal readonly struct Permutation
{
    // Four rounds look random on large domains (Luby and Rackoff 1988); halves of a few bits need some more.
    private const int Rounds = 8;

    private readonly long _count;
    private readonly ulong _key;
    private readonly int _halfBits;

    public Permutation(long count, ulong key)
    {
        _count = count;
        _key = key;
        var bits = 64 - BitOperations.LeadingZeroCount((ulong)(count - 1));
        _halfBits = int.Max(1, (bits + 1) / 2);
    }

    /// <param name="position">0 to Count - 1.</param>
    public long this[long position]
    {
        get
        {
            var value = (ulong)position;
            do
            {
                value = Encrypt(value);
            }
            while (value >= (ulong)_count);

            return (long)value;
        }
    }

    private ulong Encrypt(ulong value)
    {
        var mask = (1UL << _halfBits) - 1;
        var (left, right) = (value >> _halfBits, value & mask);
        for (var round = 0; round < Rounds; round++)
        {
            var scrambled = CounterHash.Derive(_key, ((ulong)round << _halfBits) | right) & mask;
            (left, right) = (right, left ^ scrambled);
        }

        return (left << _halfBits) | right;
    }
}
