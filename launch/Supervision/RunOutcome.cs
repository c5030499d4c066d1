using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>How a run ended.</summary>
/// <param name="ExitCode">The launcher's exit code.</param>
/// <param name="Elapsed">From the start of the ranks to the end of the last.</param>
/// <param name="RootCause">The first failure that was not the effect of another; null where nothing failed.</param>
internal sealed record RunOutcome(int ExitCode, TimeSpan Elapsed, RootCause? RootCause = null)
{
    /// <summary>The word for run.json.</summary>
    public string Status => ExitCode switch
    {
        ExitCodes.Done => "done",
        ExitCodes.Stopped => "stopped",
        > 128 when RootCause is null => "interrupted",
        _ => "failed",
    };
}

/// <summary>The first cause of a failed run.</summary>
/// <param name="Failure">The rank's own account, or ours where it had no time for one.</param>
/// <param name="ProcessId">Of the rank; null where it never reported.</param>
/// <param name="Others">Ranks that were running when it happened and were stopped by the launcher.</param>
internal sealed record RootCause(RankFailure Failure, int? ProcessId, int Others);
