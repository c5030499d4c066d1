namespace Moe.Models;

/// <summary>More rows come to this rank's experts than its memory holds, even where they are worked on in the smallest parts. Thrown before a row moves.</summary>
public sealed class ExpertMemoryException : Exception
{
    /// <inheritdoc/>
    public ExpertMemoryException()
    {
    }

    /// <inheritdoc/>
    public ExpertMemoryException(string message)
        : base(message)
    {
    }

    /// <inheritdoc/>
    public ExpertMemoryException(string message, Exception innerException)
        : base(message, innerException)
    {
    }

    /// <summary>The layer's experts, as in <c>layers.3.moe</c>.</summary>
    public string Where { get; init; } = "";
}
