namespace Moe.Launch.Terminal;

/// <summary>How much is shown, <c>--verbosity</c>.</summary>
internal enum Verbosity
{
    /// <summary>Errors only, and what was asked for by name.</summary>
    Quiet,

    /// <summary>What a person wants to see.</summary>
    Normal,

    /// <summary>With the stack traces of failures.</summary>
    Detailed,
}
