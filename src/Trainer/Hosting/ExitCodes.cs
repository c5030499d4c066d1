namespace Moe.Training.Hosting;

/// <summary>What a process of this project says with its exit code; scripts rely on these numbers.</summary>
public static class ExitCodes
{
    /// <summary>The work is done.</summary>
    public const int Done = 0;

    /// <summary>The command line or the configuration is wrong; usually told before any rank is started.</summary>
    public const int Usage = 1;

    /// <summary>The machine lacks something that the work needs, such as the native library.</summary>
    public const int Preflight = 2;

    /// <summary>The work itself failed: training ended in an error, or <c>verify</c> found a difference beyond its bound.</summary>
    public const int Failed = 3;

    /// <summary>A collective operation failed or timed out.</summary>
    public const int Communication = 4;

    /// <summary>No checkpoint could be read.</summary>
    public const int Checkpoint = 5;

    /// <summary>Stopped on request after saving; the same command continues (EX_TEMPFAIL, which schedulers requeue on).</summary>
    public const int Stopped = 75;

    /// <summary>The exit code of a process that a signal ended.</summary>
    /// <param name="signal">The signal's number, in [1, 64].</param>
    /// <returns>128 + <paramref name="signal"/>, as shells have it.</returns>
    public static int Signalled(int signal) => 128 + signal;
}
