namespace Moe.Optimizers;

/// <summary>Settings of <see cref="Muon"/>. Every published Muon is a point among them; those with a name are here.</summary>
public sealed record MuonOptions
{
    /// <summary>Jordan et al. 2024: KellerJordan/Muon. Learning rate 0.02.</summary>
    public static MuonOptions Keller { get; } = new();

    /// <summary>Liu et al. 2025: MoonshotAI/Moonlight. The learning rate of AdamW.</summary>
    public static MuonOptions Moonlight { get; } = new() { Form = MomentumForm.Sum, Scale = MuonScale.MatchRms, WeightDecay = 0.1 };

    /// <summary>torch.optim.Muon. Learning rate 0.001.</summary>
    public static MuonOptions Torch { get; } = new()
    {
        Direction = NewtonSchulz.Keller with { Guard = NormGuard.Floor },
        WeightDecay = 0.1,
    };

    /// <summary>Muon of microsoft/dion. Learning rate 0.01.</summary>
    public static MuonOptions Dion { get; } = new()
    {
        Form = MomentumForm.Sum,
        Nesterov = false,
        Scale = MuonScale.Spectral,
        Direction = NewtonSchulz.PolarExpress,
        WeightDecay = 0.01,
    };

    /// <summary>Share of the running gradient kept a step, in [0, 1).</summary>
    public double Momentum { get; init; } = 0.95;

    /// <summary>How the running gradient takes in a new one.</summary>
    public MomentumForm Form { get; init; } = MomentumForm.Ema;

    /// <summary>Whether the direction is that of the running gradient after one more step with the same gradient.</summary>
    public bool Nesterov { get; init; } = true;

    /// <summary>What each matrix is stepped along.</summary>
    public MatrixDirection Direction { get; init; } = NewtonSchulz.Keller;

    /// <summary>Size of the step.</summary>
    public MuonScale Scale { get; init; } = MuonScale.Keller;

    /// <summary>Per step and, unless <see cref="Decay"/> is fixed, per unit of learning rate, which <see cref="Scale"/> does not touch; at least 0.</summary>
    public double WeightDecay { get; init; }

    /// <summary>Where the decay acts; decoupled in all published ones.</summary>
    public DecayForm Decay { get; init; } = DecayForm.Decoupled;

    /// <summary>What happens to experts without tokens. Here a gradient of zeros gives a step of full size along what is left of the momentum.</summary>
    public IdlePolicy Idle { get; init; } = IdlePolicy.Reference;
}
