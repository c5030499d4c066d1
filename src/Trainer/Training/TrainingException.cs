namespace Moe.Training;

/// <summary>Training cannot go on, though configuration and machine were in order: it diverged, or a checkpoint could not be written.</summary>
/// <param name="message">What happened.</param>
/// <param name="remedy">What to try; null where the message says it, or nothing is known to help.</param>
public sealed class TrainingException(string message, string? remedy = null) : Exception(message)
{
    /// <summary>What to try; null where nothing is known to help.</summary>
    public string? Remedy { get; } = remedy;
}
