namespace Moe.Data;

/// <summary>How a global batch of consecutive samples is dealt to micro-steps and ranks.</summary>
/// <remarks>
/// Sample of (micro-step a, rank r, sequence i): consumed + (a * WorldSize + r) * MicroBatch + i. Every split of the same global batch
/// therefore holds the same samples, and on a changed global batch a run continues at its consumed count without repeats or gaps.
/// </remarks>
/// <param name="Accumulation">Micro-steps per optimizer step, at least 1.</param>
/// <param name="WorldSize">Ranks, each with its own tokens, at least 1.</param>
/// <param name="MicroBatch">Sequences per rank and micro-step, at least 1.</param>
public readonly record struct BatchPlan(int Accumulation, int WorldSize, int MicroBatch)
{
    /// <summary>Sequences per optimizer step.</summary>
    public long GlobalBatch => (long)Accumulation * WorldSize * MicroBatch;

    /// <param name="consumed">Samples used by all earlier steps: the index of this step's first sample.</param>
    /// <param name="microStep">0 to Accumulation - 1.</param>
    /// <param name="rank">0 to WorldSize - 1.</param>
    /// <param name="sequence">0 to MicroBatch - 1.</param>
    /// <returns>The global sample index.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A coordinate is outside the plan.</exception>
    public long Sample(long consumed, int microStep, int rank, int sequence)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(consumed);
        ThrowIfOutside(microStep, Accumulation, nameof(microStep));
        ThrowIfOutside(rank, WorldSize, nameof(rank));
        ThrowIfOutside(sequence, MicroBatch, nameof(sequence));
        return consumed + ((long)microStep * WorldSize + rank) * MicroBatch + sequence;
    }

    private static void ThrowIfOutside(int value, int count, string name)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(value, name);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(value, count, name);
    }
}
