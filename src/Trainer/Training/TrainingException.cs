namespace Moe.Training;

/// <summary>Training cannot go on, though configuration and machine were in order: it diverged, or a checkpoint could not be written.</summary>
/// <param name="message">What happened, and what to try.</param>
public sealed class TrainingException(string message) : Exception(message);
