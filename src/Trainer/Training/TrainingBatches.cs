using System.Diagnostics;
using Moe.Data;
using Moe.Torch;

namespace Moe.Training;

/// <summary>Sequences of one forward.</summary>
/// <param name="Tokens">[B, S] int64, the inputs.</param>
/// <param name="Targets">[B, S] int64, the token after each input.</param>
public readonly record struct MicroBatch(Tensor Tokens, Tensor Targets);

/// <summary>Writes the tokens of a sample, one more than a sequence has: each token's target is the next.</summary>
/// <param name="sample">Index in the run's order of samples.</param>
/// <param name="tokens">[S + 1].</param>
public delegate void SampleReader(long sample, Span<long> tokens);

/// <summary>The micro-batches that one rank reads.</summary>
/// <param name="read">The run's samples; the same on every rank.</param>
/// <param name="length">S: tokens of a sequence.</param>
/// <param name="plan">How a step's samples are dealt to micro-steps and ranks.</param>
/// <param name="rank">This rank.</param>
/// <param name="device">Where micro-batches are wanted.</param>
public sealed class TrainingBatches(SampleReader read, int length, BatchPlan plan, int rank, Device device = default)
{
    /// <summary>How a step's samples are dealt.</summary>
    public BatchPlan Plan => plan;

    /// <summary>Tokens of a step over all ranks.</summary>
    public long TokensPerStep => plan.GlobalBatch * length;

    /// <summary>What all reading has taken.</summary>
    public TimeSpan ReadTime { get; private set; }

    /// <summary>Reads one micro-batch.</summary>
    /// <param name="consumed">Samples used by all earlier steps.</param>
    /// <param name="microStep">0 to accumulation - 1.</param>
    public MicroBatch Read(long consumed, int microStep)
    {
        using var span = Spans.Open("data");
        var started = Stopwatch.GetTimestamp();
        var tokens = Tensor.Empty([plan.MicroBatch, length], DType.Int64);
        var targets = Tensor.Empty([plan.MicroBatch, length], DType.Int64);
        var sample = new long[length + 1];
        for (var i = 0; i < plan.MicroBatch; i++)
        {
            read(plan.Sample(consumed, microStep, rank, i), sample);
            sample.AsSpan(0, length).CopyTo(tokens.Span<long>()[(i * length)..]);
            sample.AsSpan(1, length).CopyTo(targets.Span<long>()[(i * length)..]);
        }

        var batch = new MicroBatch(tokens.To(device), targets.To(device));
        ReadTime += Stopwatch.GetElapsedTime(started);
        return batch;
    }
}
