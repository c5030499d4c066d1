namespace Moe.Data;

/// <summary>The endless sequence of training samples, mixed of several domains; any of them can be read at once, in constant time.</summary>
/// <remarks>
/// Sample n is a function of the seed, n, the domains' names, weights and tokens, the sequence length and the evaluation fraction; never
/// of ranks, accumulation or what was read before. Of every 4,096 samples each domain has exactly its share, and within a domain each
/// window comes once an epoch; docs/data.md has the definition. <see cref="BatchPlan"/> says which rank reads which sample. Any number
/// of threads may read.
/// </remarks>
public sealed class TrainingSampler
{
    private const string Sampling = "cannot train on";

    private readonly Mixture _mixture;
    private readonly WindowOrder[] _orders;

    /// <param name="domains">At least one; their order counts only where shares round.</param>
    /// <param name="sequenceLength">S, tokens predicted per sample, at least 1.</param>
    /// <param name="evaluationFraction">Share of each domain's tokens, at its end, that is not trained on, in [0, 1).</param>
    /// <param name="seed">Another seed, another order.</param>
    /// <exception cref="DataException">
    /// A name occurs twice, a weight is not positive or below 1/4,096 of all, tokenizers differ, or a training split is shorter than one sample.
    /// </exception>
    public TrainingSampler(IReadOnlyList<Domain> domains, int sequenceLength, double evaluationFraction, long seed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(domains.Count, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(sequenceLength, 1);
        RefuseUnfit(domains);
        Domains = domains;
        SequenceLength = sequenceLength;
        var key = CounterHash.Derive((ulong)seed, "samples");
        _mixture = new Mixture([.. domains.Select(domain => domain.Weight)], CounterHash.Derive(key, "mixture"));
        RefuseWithoutShare(domains, _mixture);
        _orders = [.. domains.Select(domain => Order(domain, sequenceLength, evaluationFraction, CounterHash.Derive(key, "domain " + domain.Name)))];
    }

    /// <summary>The domains that <see cref="SampleId.Domain"/> counts.</summary>
    public IReadOnlyList<Domain> Domains { get; }

    /// <summary>S: a sample has S inputs and, one token later, S targets.</summary>
    public int SequenceLength { get; }

    /// <summary>Of 4,096 consecutive samples from a multiple of 4,096 on, how many are of <paramref name="domain"/>; at least 1.</summary>
    public int SamplesPerPeriod(int domain) => _mixture.Shares[domain];

    /// <summary>Samples of <paramref name="domain"/> in which each of its windows comes once.</summary>
    public long WindowsPerEpoch(int domain) => _orders[domain].WindowsPerEpoch;

    /// <param name="sample">Global sample index, at least 0.</param>
    /// <returns>The domain and the position in its tokens.</returns>
    public SampleId Identify(long sample)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sample);
        var (domain, ordinal) = _mixture[sample];
        return new SampleId(domain, _orders[domain].Start(ordinal));
    }

    /// <param name="sample">Global sample index, at least 0.</param>
    /// <param name="tokens">Receives S + 1 ids: inputs are the first S, targets the last S.</param>
    /// <exception cref="ArgumentException">The span has another length.</exception>
    public void Read(long sample, Span<long> tokens)
    {
        RequireLength(tokens, SequenceLength);
        var id = Identify(sample);
        Domains[id.Domain].Tokens.Read(id.Start, tokens);
    }

    internal static void RequireLength(Span<long> tokens, int sequenceLength)
    {
        if (tokens.Length != sequenceLength + 1)
        {
            var message = $"A sample of {sequenceLength} tokens and its target is {sequenceLength + 1} long, the span {tokens.Length}.";
            throw new ArgumentException(message, nameof(tokens));
        }
    }

    private static WindowOrder Order(Domain domain, int sequenceLength, double evaluationFraction, ulong key)
    {
        var training = TokenSplit.Of(domain.Tokens.Count, evaluationFraction).Training;
        if (training <= sequenceLength)
        {
            var why = $"its training split has {training:N0} of {domain.Tokens.Count:N0} tokens, "
                + $"one sequence of {sequenceLength} needs {sequenceLength + 1L:N0}";
            throw new DataException(Sampling, domain.Name, why, "lower model.sequence_length or data.eval_fraction, or add text");
        }

        return new WindowOrder(training, sequenceLength, key);
    }

    private static void RefuseUnfit(IReadOnlyList<Domain> domains)
    {
        var first = domains[0].Tokens;
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (var domain in domains)
        {
            if (!names.Add(domain.Name))
            {
                throw new DataException(Sampling, domain.Name, "two domains have this name", "give each its own");
            }

            if (!(domain.Weight > 0 && double.IsFinite(domain.Weight)))
            {
                var why = FormattableString.Invariant($"its weight is {domain.Weight}");
                throw new DataException(Sampling, domain.Name, why, "make it a number above 0, or remove the domain");
            }

            domain.Tokens.RequireTokenizer(first.Tokenizer, first.Vocabulary);
        }
    }

    private static void RefuseWithoutShare(IReadOnlyList<Domain> domains, Mixture mixture)
    {
        for (var i = 0; i < domains.Count; i++)
        {
            if (mixture.Shares[i] == 0)
            {
                var total = domains.Sum(domain => domain.Weight);
                var why = FormattableString.Invariant($"its weight {domains[i].Weight} is too small a part of all domains' {total}")
                    + $" for one sample in {Mixture.Period}";
                throw new DataException(Sampling, domains[i].Name, why, "raise its weight, or remove the domain");
            }
        }
    }
}
