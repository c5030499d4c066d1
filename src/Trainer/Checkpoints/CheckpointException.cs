namespace Moe.Training.Checkpoints;

/// <summary>A checkpoint cannot be read or written. The message says which file, what is wrong with it and what to try.</summary>
/// <param name="message">What, where, why, and what to try.</param>
/// <param name="inner">What the file system or the tensor file said; null where nothing was thrown.</param>
public sealed class CheckpointException(string message, Exception? inner = null) : Exception(message, inner);
