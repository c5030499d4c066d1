using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>MLflow's words for where a run stands.</summary>
public static class TrackedStatus
{
    /// <summary>It trains.</summary>
    public const string Running = "RUNNING";

    /// <summary>It has stopped to be continued: it waits for its turn, and neither failed nor is it done.</summary>
    public const string Stopped = "SCHEDULED";

    /// <summary>All steps are done.</summary>
    public const string Finished = "FINISHED";

    /// <summary>It ended by a fault.</summary>
    public const string Failed = "FAILED";

    /// <summary>Somebody ended it without letting it save, or it ended without a word.</summary>
    public const string Killed = "KILLED";

    /// <summary>Whether a run of this status has an end.</summary>
    public static bool HasEnded(string status) => status is Finished or Failed or Killed;

    /// <summary>The status of a run whose processes left with this code, see <see cref="ExitCodes"/>.</summary>
    public static string Of(int exitCode) => exitCode switch
    {
        ExitCodes.Done => Finished,
        ExitCodes.Stopped => Stopped,
        > 128 => Killed,
        _ => Failed,
    };
}
