using Moe.Optimizers;

namespace Moe.Training.Configuration;

/// <summary>Section <c>optimizer.muon</c>: a published Muon, and what of it is to be different. Its momentum and decay are those of <c>optimizer</c>.</summary>
public sealed record MuonConfig
{
    private const string Muon = "optimizer.name=muon|drop_muon";

    [Setting("The published Muon to start from: Jordan's `keller`, `moonlight` (AdamW's learning rates fit it), `torch`, or `dion`.", When = Muon)]
    public MuonPreset Preset { get; init; } = MuonPreset.Moonlight;

    [Setting("Running gradient as an exponential moving average (`ema`) or as a `sum`.", When = Muon, Default = "the preset's")]
    public MomentumForm? MomentumForm { get; init; }

    [Setting("Whether the direction looks ahead by one momentum step.", When = Muon, Default = "the preset's")]
    public bool? Nesterov { get; init; }

    [Setting("Factor on a step of R rows and C columns: `keller` sqrt(max(1, R/C)), `match_rms` 0.2 sqrt(max(R, C)), `spectral` sqrt(R/C), or `none`.",
        When = Muon, Default = "the preset's")]
    public MuonScale? Scale { get; init; }

    [Setting("Newton-Schulz coefficients by name, or those of `optimizer.muon.rows`.", When = Muon, Default = "the preset's")]
    public MuonTable? Table { get; init; }

    [Setting("Newton-Schulz coefficients, one row an iteration; the last one is repeated.", When = "optimizer.muon.table=rows", Default = "none")]
    public ValueList<MuonRow> Rows { get; init; } = [];

    [Setting("Newton-Schulz iterations.", AtLeast = 1, AtMost = 100, When = Muon)]
    public int Steps { get; init; } = 5;

    [Setting("Type of the Newton-Schulz products.", When = Muon, Default = "float64 where weights are, else bfloat16")]
    public Precision? Precision { get; init; }
}

/// <summary>One row of Newton-Schulz coefficients: a x + b x^3 + c x^5.</summary>
public sealed record MuonRow
{
    [Setting("Factor of x.")]
    public required double A { get; init; }

    [Setting("Factor of x^3.")]
    public required double B { get; init; }

    [Setting("Factor of x^5.")]
    public required double C { get; init; }
}

/// <summary>Values of <c>optimizer.muon.preset</c>.</summary>
public enum MuonPreset
{
    /// <summary>KellerJordan/Muon.</summary>
    Keller,

    /// <summary>MoonshotAI/Moonlight.</summary>
    Moonlight,

    /// <summary>torch.optim.Muon.</summary>
    Torch,

    /// <summary>Muon of microsoft/dion.</summary>
    Dion,
}

/// <summary>Values of <c>optimizer.muon.table</c>.</summary>
public enum MuonTable
{
    /// <summary>The same iteration each time.</summary>
    Keller,

    /// <summary>Five different ones, as in Dion and NVIDIA's Emerging-Optimizers.</summary>
    Quintic,

    /// <summary>The optimal five (https://arxiv.org/abs/2505.16932).</summary>
    PolarExpress,

    /// <summary>Those that the configuration lists.</summary>
    Rows,
}
