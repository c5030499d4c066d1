namespace Moe.Data;

/// <summary>The held-out end of a domain as a fixed list of sequences, a function of the tokens, the fraction and the length alone.</summary>
/// <remarks>
/// Window i holds S + 1 tokens from the split's start + i * S: S inputs, and the S tokens after them as targets. Every target is predicted
/// once; of the split, only its first token and the last (count - 1) mod S are no targets.
/// </remarks>
public sealed class EvaluationWindows
{
    private readonly TokenFolder _tokens;
    private readonly int _sequenceLength;
    private readonly long _start;

    /// <param name="tokens">The domain; disposed by the caller.</param>
    /// <param name="sequenceLength">S, tokens predicted per window, at least 1.</param>
    /// <param name="evaluationFraction">Share of the tokens held out, in [0, 1).</param>
    /// <exception cref="DataException">The split is shorter than one window.</exception>
    public EvaluationWindows(TokenFolder tokens, int sequenceLength, double evaluationFraction)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(sequenceLength, 1);
        var split = TokenSplit.Of(tokens.Count, evaluationFraction);
        _tokens = tokens;
        _sequenceLength = sequenceLength;
        _start = split.Training;
        Count = (split.Evaluation - 1) / sequenceLength;
        if (Count < 1)
        {
            var why = $"its evaluation split has {split.Evaluation:N0} of {tokens.Count:N0} tokens, "
                + $"one sequence of {sequenceLength} needs {sequenceLength + 1L:N0}";
            const string remedy = "raise data.eval_fraction, lower model.sequence_length, or add text";
            throw new DataException("cannot evaluate on", tokens.Location, why, remedy);
        }
    }

    /// <summary>Number of windows, at least 1.</summary>
    public long Count { get; }

    /// <param name="window">0 to Count - 1.</param>
    /// <returns>Position in the token folder of the window's first token.</returns>
    public long Start(long window)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(window, Count);
        return _start + window * _sequenceLength;
    }

    /// <param name="window">0 to Count - 1.</param>
    /// <param name="tokens">Receives S + 1 ids.</param>
    /// <exception cref="ArgumentException">The span has another length.</exception>
    public void Read(long window, Span<long> tokens)
    {
        TrainingSampler.RequireLength(tokens, _sequenceLength);
        _tokens.Read(Start(window), tokens);
    }
}
