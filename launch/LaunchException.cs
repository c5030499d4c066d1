namespace Moe.Launch;

/// <summary>The launcher cannot do what was asked. It is shown on one screen, without a stack trace.</summary>
/// <param name="exitCode">What the process leaves with.</param>
/// <param name="what">What is wrong, and where.</param>
/// <param name="remedy">The command or the change that mends it.</param>
internal sealed class LaunchException(int exitCode, string what, string remedy) : Exception(what)
{
    public int ExitCode { get; } = exitCode;

    public string Remedy { get; } = remedy;
}
