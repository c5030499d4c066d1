namespace Moe.Data;

/// <summary>The order in which training visits the windows of one domain, epoch after epoch, each window once an epoch.</summary>
/// <remarks>
/// S = sequence length, T = training tokens. An epoch has W = max(1, floor(T / S) - 1) windows; window w holds S + 1 tokens from
/// phase + w * S. The phase is drawn anew each epoch from 0 to T - 1 - W * S, which is at least S - 1 where T is at least 2 S: so every
/// offset within a sequence occurs, every token is reached, and W is the same in every epoch, which is what makes access O(1).
/// </remarks>
internal sealed class WindowOrder
{
    private const ulong PhaseStream = 0, WindowStream = 1;

    private readonly int _sequenceLength;
    private readonly long _phases;
    private readonly ulong _key;

    /// <param name="trainingTokens">T, above S.</param>
    /// <param name="sequenceLength">S, at least 1.</param>
    /// <param name="key">Of the run and the domain.</param>
    public WindowOrder(long trainingTokens, int sequenceLength, ulong key)
    {
        _sequenceLength = sequenceLength;
        _key = key;
        WindowsPerEpoch = long.Max(1, trainingTokens / sequenceLength - 1);
        _phases = trainingTokens - WindowsPerEpoch * sequenceLength;
    }

    /// <summary>W.</summary>
    public long WindowsPerEpoch { get; }

    /// <param name="ordinal">Number of earlier samples of this domain.</param>
    /// <returns>Position of the window's first token; the S tokens after it are training tokens too.</returns>
    public long Start(long ordinal)
    {
        var (epoch, position) = long.DivRem(ordinal, WindowsPerEpoch);
        var epochKey = CounterHash.Derive(_key, (ulong)epoch);
        var phase = CounterHash.Below(CounterHash.Derive(epochKey, PhaseStream), _phases);
        var windows = new Permutation(WindowsPerEpoch, CounterHash.Derive(epochKey, WindowStream));
        return phase + windows[position] * _sequenceLength;
    }
}
