namespace Moe.Training.Configuration;

/// <summary>Section <c>schedule</c>.</summary>
public sealed record ScheduleConfig
{
    [Setting("Course after the warm-up: `constant`, or falling to the end by a `linear` or `cosine` curve.")]
    public ScheduleName Name { get; init; } = ScheduleName.Cosine;

    [Setting("Steps over which the learning rate grows from 0 to its peak.", AtLeast = 0)]
    public int WarmupSteps { get; init; } = 20;

    [Setting("Learning rate of the last step, as a share of the peak.", AtLeast = 0, AtMost = 1, When = "schedule.name=linear|cosine")]
    public double FinalFraction { get; init; } = 0.1;
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
}
