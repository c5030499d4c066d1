namespace Moe.Launch.Checks;

/// <summary>How a check went.</summary>
internal enum Verdict
{
    /// <summary>As it should be.</summary>
    Works,

    /// <summary>Training works, but slower or with fewer choices.</summary>
    Warns,

    /// <summary>Training, or what was asked for, will not work.</summary>
    Fails,

    /// <summary>There is nothing to check: it is not installed, or not asked for.</summary>
    Skipped,
}

/// <summary>One line of <c>launch doctor</c>.</summary>
/// <param name="Verdict">How the check went.</param>
/// <param name="Text">What was found, beginning with what it is about.</param>
/// <param name="Remedy">What mends it; null where nothing needs to be mended.</param>
internal sealed record Finding(Verdict Verdict, string Text, string? Remedy = null)
{
    public static Finding Works(string text) => new(Verdict.Works, text);

    public static Finding Skipped(string text) => new(Verdict.Skipped, text);
}
