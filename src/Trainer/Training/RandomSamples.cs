using Moe.Torch;

namespace Moe.Training;

/// <summary>Sequences of random token ids, each a function of (seed, sample) alone: for benchmarks, where a text would load experts in its own way.</summary>
/// <param name="seed">Of the run.</param>
/// <param name="vocabulary">Ids are below it, all equally likely.</param>
internal sealed class RandomSamples(ulong seed, int vocabulary)
{
    private readonly RandomStream _ids = new(seed, "tokens");

    /// <summary>Fills a sequence.</summary>
    /// <param name="sample">Its index.</param>
    /// <param name="tokens">Of the same length for all samples.</param>
    public void Read(long sample, Span<long> tokens)
    {
        for (var i = 0; i < tokens.Length; i++)
        {
            tokens[i] = _ids.Below((sample * tokens.Length) + i, vocabulary);
        }
    }
}
