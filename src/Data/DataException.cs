namespace Moe.Data;

/// <summary>Texts or token files that cannot be used: what failed, where, why, and what to try.</summary>
/// <remarks>Misuse by the program (an index out of range, a span of another length) is an <see cref="ArgumentException"/> instead.</remarks>
public sealed class DataException : Exception
{
    /// <param name="what">The failed undertaking, such as "cannot open token folder".</param>
    /// <param name="where">File, folder or domain concerned.</param>
    /// <param name="why">The finding, with the numbers found and expected.</param>
    /// <param name="remedy">What the user can do, as an imperative.</param>
    /// <param name="inner">The operating system's or parser's error behind it, where there is one.</param>
    public DataException(string what, string where, string why, string remedy, Exception? inner = null)
        : base($"{what} '{where}': {why}; {remedy}", inner)
    {
        Why = why;
    }

    /// <summary>The finding alone, for a caller that mends it and reports the reason.</summary>
    public string Why { get; }
}
