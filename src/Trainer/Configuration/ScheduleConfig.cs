namespace Moe.Training.Configuration;

/// <summary>Section <c>schedule</c>.</summary>
public sealed record ScheduleConfig
{
    [Setting("Course after the warm-up: `constant`; falling to the end by a `linear` or `cosine` curve; `wsd`, constant and falling at the end only; or `refined`, read from a file.")]
    public ScheduleName Name { get; init; } = ScheduleName.Cosine;

    [Setting("Steps over which the learning rate grows from 0 to its peak.", AtLeast = 0, When = "schedule.name=constant|linear|cosine|wsd")]
    public int WarmupSteps { get; init; } = 20;

    [Setting("Learning rate of the last step, as a share of the peak.", AtLeast = 0, AtMost = 1, When = "schedule.name=linear|cosine|wsd")]
    public double FinalFraction { get; init; } = 0.1;

    [Setting("Last part of the run in which the learning rate falls, as a share of `train.steps`.", Above = 0, AtMost = 1, When = "schedule.name=wsd")]
    public double DecayFraction { get; init; } = 0.2;

    [Setting("How it falls: by a straight line, or by 1 - sqrt, steep at first.", When = "schedule.name=wsd")]
    public DecayShape DecayShape { get; init; } = DecayShape.Linear;

    [Setting("File that `launch schedule refine` wrote.", IsPath = true, When = "schedule.name=refined")]
    public string? File { get; init; }
}

/// <summary>Values of <c>schedule.name</c>.</summary>
public enum ScheduleName
{
    /// <summary>Stays at the peak.</summary>
    Constant,

    /// <summary>Falls by the same amount every step.</summary>
    Linear,

    /// <summary>Falls along half a cosine.</summary>
    Cosine,

    /// <summary>Warm-up, stable, decay.</summary>
    Wsd,

    /// <summary>Follows a curve computed from an earlier run's gradient norms (https://arxiv.org/abs/2310.07831).</summary>
    Refined,
}

/// <summary>Values of <c>schedule.decay_shape</c>.</summary>
public enum DecayShape
{
    /// <summary>By the same amount every step.</summary>
    Linear,

    /// <summary>1 - sqrt of the way (https://arxiv.org/abs/2405.18392).</summary>
    [Spelling("1-sqrt")] InverseRoot,
}
