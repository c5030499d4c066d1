namespace Moe.Training.Configuration;

/// <summary>Section <c>optimizer.drop</c>: which layers Drop-Muon trains in a step, drawn from seed and step alone.</summary>
public sealed record DropConfig
{
    [Setting("Layers that train in a step: those from a random `cut` on, where backward ends, or a random `subset`.", When = "optimizer.name=drop_muon")]
    public DropForm Form { get; init; } = DropForm.Cut;

    [Setting("Chance of a layer to train, each by itself.", Above = 0, AtMost = 1, When = "optimizer.drop.form=subset")]
    public double Probability { get; init; } = 0.5;
}

/// <summary>Values of <c>optimizer.drop.form</c>.</summary>
public enum DropForm
{
    /// <summary>A layer is drawn, each as likely; it and all above train.</summary>
    Cut,

    /// <summary>Each layer is drawn by itself.</summary>
    Subset,
}
