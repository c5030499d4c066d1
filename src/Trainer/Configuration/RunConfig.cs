namespace Moe.Training.Configuration;

/// <summary>
/// Everything that defines a run, read once (<see cref="ConfigReader"/>), checked as a whole (<see cref="ConfigRules"/>) and handed
/// down in parts. Each property is a section of the YAML file; its keys are the properties of its record in snake_case.
/// </summary>
public sealed record RunConfig
{
    [Setting("The run itself: its name and the seed of all its random numbers.")]
    public IdentityConfig Run { get; init; } = new();

    [Setting("The transformer's shape; `model.moe` holds what belongs to the experts.")]
    public ModelConfig Model { get; init; } = new();

    [Setting("What keeps the experts equally loaded.")]
    public BalanceConfig Balance { get; init; } = new();

    [Setting("How gradients become steps.")]
    public OptimizerConfig Optimizer { get; init; } = new();

    [Setting("The learning rate's course over the run, from 0 over the peak (`optimizer.learning_rate`) to the end.")]
    public ScheduleConfig Schedule { get; init; } = new();

    [Setting("The text to learn from.")]
    public DataConfig Data { get; init; } = new();

    [Setting("The loop: length, batch, precision, and how often it logs, evaluates and saves.")]
    public TrainConfig Train { get; init; } = new();

    [Setting("How the work is spread over ranks.")]
    public ParallelConfig Parallel { get; init; } = new();

    [Setting("Telling the run to MLflow; see docs/tracking.md.")]
    public TrackingConfig Tracking { get; init; } = new();
}
