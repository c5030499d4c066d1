namespace Moe.Optimizers;

/// <summary>What <see cref="Muon"/>'s direction is multiplied by, for a matrix of R rows (outputs) and C columns (inputs).</summary>
public enum MuonScale
{
    /// <summary>sqrt(max(1, R / C)); a convolution's kernel counts by its own last two lengths, as Jordan's program has it.</summary>
    Keller,

    /// <summary>0.2 sqrt(max(R, C)): the size of AdamW's steps, whose learning rate and decay then fit (https://arxiv.org/abs/2502.16982).</summary>
    MatchRms,

    /// <summary>sqrt(R / C): the same learning rate for all widths (https://arxiv.org/abs/2310.17813).</summary>
    Spectral,

    /// <summary>1.</summary>
    None,
}
