using Moe.Optimizers;

namespace Moe.Training.Configuration;

/// <summary>Section <c>optimizer.mkor</c>; docs/optimizers.md says what the rules are.</summary>
public sealed record MkorConfig
{
    private const string On = "optimizer.precondition=mkor|mkor_h";
    private const string Hybrid = "optimizer.precondition=mkor_h";

    [Setting("How factors are updated: as the authors' program does (`code`), or by the exact inverse of a moving average (`exact`).", When = On)]
    public MkorUpdate Rule { get; init; } = MkorUpdate.Code;

    [Setting("Steps from one update of the factors to the next.", AtLeast = 1, When = On)]
    public int InverseFrequency { get; init; } = 10;

    [Setting("Steps at the start that all update the factors.", AtLeast = 0, When = On)]
    public int WarmupSteps { get; init; }

    [Setting("Largest magnitude of an input or output gradient that enters a factor.", Above = 0, When = On)]
    public double Clip { get; init; } = 100;

    [Setting("Share of a factor that an update keeps.", Above = 0, Below = 1, When = On)]
    public double Gamma { get; init; } = 0.95;

    [Setting("Share of a factor that is kept where an entry exceeds the threshold; the rest is the identity.", AtLeast = 0, AtMost = 1, When = "optimizer.mkor.rule=exact")]
    public double Zeta { get; init; } = 0.9;

    [Setting("Largest magnitude of a factor's entry: beyond it `code` starts the factor again, `exact` pulls it back.", Above = 1, When = On)]
    public double Threshold { get; init; } = 2;

    [Setting("Fewest tokens of a step, over all ranks, by which an expert's factors are updated.", AtLeast = 1, When = On)]
    public int MinTokens { get; init; } = 8;

    [Setting("Whether an expert with fewer tokens than the mean forgets and learns by less in an update, so that its memory is as long in tokens.", When = On)]
    public bool LoadAware { get; init; }

    [Setting("Matrices that stay first-order.", Default = "none", When = On)]
    public ValueList<MatrixPattern> Skip { get; init; } = [];

    [Setting("Steps over which the rate of the loss is taken.", AtLeast = 1, When = Hybrid)]
    public int SwitchWindow { get; init; } = 50;

    [Setting("Share of the first windows' best rate under which the loss falls too slowly for two windows, and MKOR ends.", AtLeast = 0, AtMost = 1, When = Hybrid)]
    public double SwitchTheta { get; init; } = 0.1;

    [Setting("Steps before which MKOR doesn't end.", AtLeast = 0, When = Hybrid)]
    public int SwitchMinStep { get; init; }
}

/// <summary>An item of <c>optimizer.mkor.skip</c>.</summary>
public sealed record MatrixPattern
{
    [Setting("Keys of parameters: `*` stands for any text, `?` for one character, as in `layers.*.attention.query`.")]
    public required string Match { get; init; }
}

/// <summary>Values of <c>optimizer.precondition</c>.</summary>
public enum Precondition
{
    /// <summary>Gradients are stepped with as they are.</summary>
    None,

    /// <summary>MKOR (https://arxiv.org/abs/2306.01685).</summary>
    Mkor,

    /// <summary>MKOR, then the first-order optimizer alone once the loss falls slowly.</summary>
    MkorH,
}

/// <summary>Values of <c>optimizer.mkor.rule</c>: those of <see cref="MkorRule"/> that train.</summary>
public enum MkorUpdate
{
    /// <inheritdoc cref="MkorRule.Code"/>
    Code,

    /// <inheritdoc cref="MkorRule.Exact"/>
    Exact,
}
