using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training;

/// <summary>
/// How many tokens chose each expert, over all ranks of a step: integers, since a sum of rounded ones loses counts (bfloat16 stops at 256).
/// Evaluation and recomputation never come here.
/// </summary>
/// <remarks>Shapes: L = layers with experts, E = experts of a layer.</remarks>
/// <param name="group">All ranks with different tokens.</param>
/// <param name="layers">L.</param>
/// <param name="experts">E.</param>
/// <param name="firstLayer">Index in the model of the first layer with experts.</param>
public sealed class ExpertLoad(ProcessGroup group, int layers, int experts, int firstLayer = 0)
{
    private readonly long[] _counts = new long[layers * experts];

    /// <summary>L.</summary>
    public int Layers => layers;

    /// <summary>E.</summary>
    public int Experts => experts;

    /// <summary>Tokens that chose each expert, [L * E] layer by layer.</summary>
    public IReadOnlyList<long> Counts => _counts;

    /// <summary>Largest load of a layer's experts over their mean, averaged over the layers; 1 when all are equal.</summary>
    public double MaxOverMean => Enumerable.Range(0, layers)
        .Select(layer => _counts.AsSpan(layer * experts, experts).ToArray())
        .Select(counts => counts.Sum() == 0 ? 1.0 : counts.Max() * (double)experts / counts.Sum())
        .DefaultIfEmpty(1).Average();

    /// <summary>Experts, over all layers, that no token chose.</summary>
    public int Dead => _counts.Count(count => count == 0);

    /// <summary>Whether a parameter belongs to an expert that no token chose.</summary>
    public bool IsIdle(LogicalParameter parameter) =>
        parameter is { Expert: { } expert, Layer: { } layer } && _counts[((layer - firstLayer) * experts) + expert] == 0;

    /// <summary>Adds one micro-batch of every rank. Every rank calls this at the same time.</summary>
    /// <param name="counts">This rank's counts [L, E] int64.</param>
    public void Add(Tensor counts)
    {
        if (layers == 0)
        {
            return;
        }

        using var scope = new TensorScope();
        var sum = counts.Clone();
        group.AllReduce(sum);
        var values = sum.Span<long>();
        for (var i = 0; i < _counts.Length; i++)
        {
            _counts[i] += values[i];
        }
    }

    /// <summary>Counts so far, [L, E] int64.</summary>
    public Tensor ToTensor() => Tensor.From(_counts, layers, experts);

    /// <summary>Load of each expert over the mean, averaged over the layers, [E]; what the console draws.</summary>
    public double[] Relative()
    {
        var relative = new double[experts];
        for (var i = 0; i < _counts.Length; i++)
        {
            var layer = _counts.AsSpan(i / experts * experts, experts);
            var sum = 0L;
            foreach (var count in layer)
            {
                sum += count;
            }

            relative[i % experts] += sum == 0 ? 0 : _counts[i] * (double)experts / sum / layers;
        }

        return relative;
    }
}
