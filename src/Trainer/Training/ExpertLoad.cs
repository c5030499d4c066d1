using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training;

/// <summary>
/// How many tokens chose each expert, over all ranks of a step: integers, since a sum of rounded ones loses counts (bfloat16 stops at 256).
/// Evaluation and recomputation never come here.
/// </summary>
/// <remarks>
/// Shapes: L = layers with experts, E = experts of a layer. Counts stay on their device while micro-batches are added; <see cref="Settle"/> brings them
/// to the host, once a step.
/// </remarks>
/// <param name="group">All ranks with different tokens.</param>
/// <param name="layers">L.</param>
/// <param name="experts">E.</param>
/// <param name="firstLayer">Index in the model of the first layer with experts.</param>
public sealed class ExpertLoad(ProcessGroup group, int layers, int experts, int firstLayer = 0)
{
    private readonly long[] _counts = new long[layers * experts];
    private Tensor? _sum; // [L, E], not yet in _counts
    private bool _settled; // whether _counts has any
    private Tensor? _adding; // [L, E], of all ranks once _work is done
    private Work? _work;

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

    /// <summary>Adds one micro-batch of every rank, whose counts travel while the caller goes on. Every rank calls this at the same time.</summary>
    /// <param name="counts">This rank's counts [L, E] int64.</param>
    public void Add(Tensor counts)
    {
        if (layers == 0)
        {
            return;
        }

        Arrive();
        _adding = counts.Clone().Detached();
        _work = group.AllReduceAsync(_adding);
    }

    /// <summary>Counts what was added since the last time; the other members know of no more than this. Waits for the device.</summary>
    public void Settle()
    {
        Arrive();
        if (_sum is null)
        {
            return;
        }

        var values = _sum.ToArray<long>();
        for (var i = 0; i < _counts.Length; i++)
        {
            _counts[i] += values[i];
        }

        _sum.Dispose();
        _sum = null;
        _settled = true;
    }

    /// <summary>Hands out what was added since the last <see cref="Settle"/>, [L, E] int64 where it was added, and forgets it; outside any scope.</summary>
    internal Tensor Take()
    {
        Arrive();
        var sum = _sum ?? Tensor.From(_counts, layers, experts).Detached();
        _sum = null;
        return sum;
    }

    /// <summary>Counts so far, [L, E] int64, where they were last added.</summary>
    public Tensor ToTensor()
    {
        Arrive();
        if (_sum is not null && !_settled)
        {
            return _sum.Share(); // no copy from the host, which would wait for the device
        }

        var settled = Tensor.From(_counts, layers, experts);
        return _sum is null ? settled : settled.To(_sum.Device) + _sum;
    }

    private void Arrive()
    {
        if (_work is not { } work)
        {
            return;
        }

        work.Wait();
        var arrived = _adding!;
        (_work, _adding) = (null, null);
        if (_sum is null)
        {
            _sum = arrived;
        }
        else
        {
            _sum.Add_(arrived);
            arrived.Dispose();
        }
    }

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
