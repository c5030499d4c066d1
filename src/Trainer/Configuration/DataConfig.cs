namespace Moe.Training.Configuration;

/// <summary>Section <c>data</c>.</summary>
public sealed record DataConfig
{
    [Setting("The texts, at least one; each sequence comes from one of them, chosen by weight.")]
    public ValueList<DomainConfig> Domains { get; init; } = [];

    [Setting("Random token ids from the whole vocabulary in place of texts: for benchmarks.")]
    public bool Random { get; init; }

    [Setting("Share of each domain, at its end, that is kept for evaluation and never trained on.", AtLeast = 0, Below = 1)]
    public double EvalFraction { get; init; } = 0.05;

    [Setting("What turns text into token ids: `byte`, one token a byte.")]
    public TokenizerName Tokenizer { get; init; } = TokenizerName.Byte;
}

/// <summary>Values of <c>data.tokenizer</c>.</summary>
public enum TokenizerName
{
    /// <summary>A token is a byte of UTF-8; 256 ids.</summary>
    Byte,
}
