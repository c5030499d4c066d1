using Moe.Data;
using Moe.Distributed;
using Moe.Models;
using Moe.Torch;

namespace Moe.Training;

/// <summary>What an evaluation found on one domain.</summary>
/// <param name="Name">The domain.</param>
/// <param name="Weight">Its weight in training.</param>
/// <param name="Loss">Nats per token over the windows read.</param>
/// <param name="Tokens">Tokens predicted.</param>
/// <param name="Counts">Tokens that chose each expert, [L * E] layer by layer.</param>
public sealed record DomainEvaluation(string Name, double Weight, double Loss, long Tokens, long[] Counts);

/// <summary>What an evaluation found.</summary>
/// <param name="Domains">By domain, in the configuration's order.</param>
public sealed record Evaluation(IReadOnlyList<DomainEvaluation> Domains)
{
    /// <summary>Nats per token, the domains weighted as in training.</summary>
    public double Loss => Domains.Sum(domain => domain.Loss * domain.Weight) / Domains.Sum(domain => domain.Weight);

    /// <summary>
    /// How strongly the domains' tokens prefer experts of their own: the Jensen-Shannon divergence of the domains' shares of each expert,
    /// over its maximum, averaged over the layers. 0 where all domains use the experts alike, 1 where no two share an expert.
    /// </summary>
    /// <param name="experts">E.</param>
    public double DomainPreference(int experts)
    {
        var layers = Domains[0].Counts.Length / experts;
        return Domains.Count < 2 || layers == 0 ? 0 : Enumerable.Range(0, layers).Average(layer => Divergence(layer, experts)) / Math.Log(Domains.Count);
    }

    private double Divergence(int layer, int experts)
    {
        var shares = Domains.Select(domain => Shares(domain.Counts.AsSpan(layer * experts, experts))).ToArray();
        var divergence = 0.0;
        for (var expert = 0; expert < experts; expert++)
        {
            var mean = shares.Average(share => share[expert]);
            divergence += shares.Average(share => share[expert] == 0 ? 0 : share[expert] * Math.Log(share[expert] / mean));
        }

        return divergence;
    }

    private static double[] Shares(ReadOnlySpan<long> counts)
    {
        var sum = 0L;
        foreach (var count in counts)
        {
            sum += count;
        }

        return Array.ConvertAll(counts.ToArray(), count => count / (double)sum);
    }
}

/// <summary>Measures the loss on the held-out ends of the domains. The same windows are read whatever the mesh; nothing of the training state changes.</summary>
public sealed class Evaluator
{
    private readonly Transformer _model;
    private readonly ProcessGroup _group;
    private readonly IReadOnlyList<Domain> _domains;
    private readonly EvaluationWindows[] _windows;
    private readonly int _sequenceLength;
    private readonly int _batch;
    private readonly long _limit;

    /// <param name="model">The model that this rank holds its share of.</param>
    /// <param name="group">All ranks; they share the windows.</param>
    /// <param name="domains">The run's domains.</param>
    /// <param name="sequenceLength">S.</param>
    /// <param name="evaluationFraction">Share of each domain that is held out.</param>
    /// <param name="batch">Windows that a rank evaluates at once.</param>
    /// <param name="limit">Windows read over all domains, spread evenly over each domain's split; 0 for all.</param>
    public Evaluator(Transformer model, ProcessGroup group, IReadOnlyList<Domain> domains, int sequenceLength, double evaluationFraction, int batch, long limit)
    {
        _model = model;
        _group = group;
        _domains = domains;
        _windows = [.. domains.Select(domain => new EvaluationWindows(domain.Tokens, sequenceLength, evaluationFraction))];
        _sequenceLength = sequenceLength;
        _batch = batch;
        _limit = limit;
    }

    /// <summary>Evaluates every domain. Every rank calls this at the same time and gets the same.</summary>
    public Evaluation Run() => new([.. _domains.Select((domain, i) => Run(domain, _windows[i]))]);

    private DomainEvaluation Run(Domain domain, EvaluationWindows windows)
    {
        using var mode = Autograd.NoGrad();
        var limit = (_limit + _domains.Count - 1) / _domains.Count;
        var count = _limit == 0 ? windows.Count : Math.Min(limit, windows.Count);
        var loss = 0.0;
        var counts = new long[_model.SelectionBiases.Count * _model.Options.Moe.Experts];

        // Experts are shared, so every rank makes the same number of forwards: one without windows left goes on with none.
        for (var first = 0L; first < count; first += (long)_batch * _group.Size)
        {
            using var scope = new TensorScope();
            var (batch, sequences) = Read(windows, count, first + (long)_group.Rank * _batch);
            Tensor? counted = null;
            var forward = _model.Forward(
                batch.Tokens.Narrow(0, 0, sequences), batch.Targets.Narrow(0, 0, sequences), 1, counted: of => counted = of.Clone().Detached());
            loss += forward.LossSum.Item();
            using var kept = counted!;
            var chosen = kept.ToArray<long>();
            for (var i = 0; i < counts.Length; i++)
            {
                counts[i] += chosen[i];
            }
        }

        using var sums = new TensorScope();
        var losses = Tensor.From([loss]).View(1);
        _group.AllReduce(losses);
        var allCounts = Tensor.From(counts, counts.Length);
        if (counts.Length > 0)
        {
            _group.AllReduce(allCounts);
        }

        var tokens = count * _sequenceLength;
        return new DomainEvaluation(domain.Name, domain.Weight, losses.Item() / tokens, tokens, allCounts.ToArray<long>());
    }

    private (MicroBatch Batch, int Sequences) Read(EvaluationWindows windows, long count, long first)
    {
        var sequences = (int)Math.Clamp(count - first, 0, _batch);
        var tokens = Tensor.Empty([_batch, _sequenceLength], DType.Int64);
        var targets = Tensor.Empty([_batch, _sequenceLength], DType.Int64);
        var sample = new long[_sequenceLength + 1];
        for (var i = 0; i < sequences; i++)
        {
            // Every count-th of the split rather than its beginning: a sample of all of it.
            windows.Read((first + i) * windows.Count / count, sample);
            sample.AsSpan(0, _sequenceLength).CopyTo(tokens.Span<long>()[(i * _sequenceLength)..]);
            sample.AsSpan(1, _sequenceLength).CopyTo(targets.Span<long>()[(i * _sequenceLength)..]);
        }

        return (new MicroBatch(tokens.To(_model.Device), targets.To(_model.Device)), sequences);
    }
}
