using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>Keeps the failures of a run in the order of their arrival, and picks the one that caused the others.</summary>
/// <remarks>
/// When a rank dies, the others notice within milliseconds that a collective broke; their accounts are secondary. So the first cause is the
/// first failure that is not secondary. Where all are (a rank that hangs fails nobody but by the time-out), it is the first, and the
/// ranks that never answered are named.
/// </remarks>
internal sealed class FailureLedger
{
    private readonly List<RankState> _inOrder = [];

    /// <summary>Closed once the launcher ends the other ranks: what they suffer then is its own doing.</summary>
    public bool IsClosed { get; set; }

    public bool IsEmpty => _inOrder.Count == 0;

    /// <summary>Whether a failure is known that no other rank can be blamed for.</summary>
    public bool HasPrimary => _inOrder.Exists(IsPrimary);

    /// <summary>Enters a rank that failed, or that ended without a word.</summary>
    public void Enter(RankState rank)
    {
        if (!IsClosed && !_inOrder.Contains(rank))
        {
            _inOrder.Add(rank);
        }
    }

    /// <summary>Picks the first cause, once every process has ended.</summary>
    /// <param name="ranks">All ranks.</param>
    /// <param name="lastLines">The last lines that a rank printed.</param>
    public RankFailure Cause(IReadOnlyList<RankState> ranks, Func<int, IReadOnlyList<string>> lastLines)
    {
        var cause = _inOrder.Find(IsPrimary) ?? _inOrder[0];
        return cause.Failure switch
        {
            null => Silent(cause, lastLines(cause.Rank)),
            { Secondary: true } broken => broken with { Why = JoinSentences(broken.Why, SilentRanks(ranks)) },
            var account => account,
        };
    }

    private static bool IsPrimary(RankState rank) => rank.Failure is not { Secondary: true };

    private static RankFailure Silent(RankState rank, IReadOnlyList<string> lastLines)
    {
        var code = rank.ExitCode;
        var what = code switch
        {
            null => "ended without a word: it was killed, or crashed",
            > 128 and <= 192 => $"killed by signal {code - 128} ({SignalName(code.Value - 128)})",
            _ => $"ended with exit code {code} without a report",
        };
        var exitCode = code is ExitCodes.Usage or ExitCodes.Preflight or ExitCodes.Communication or ExitCodes.Checkpoint ? code.Value : ExitCodes.Failed;
        return new RankFailure(
            rank.Rank,
            Step: 0,
            exitCode,
            what,
            Why: lastLines.Count == 0 ? null : "its last words: " + string.Join(" | ", lastLines),
            Try: code == ExitCodes.Signalled(9) ? "SIGKILL without a sender is often the kernel, out of memory: dmesg, or a smaller train.micro_batch" : null);
    }

    private static string? SilentRanks(IReadOnlyList<RankState> ranks)
    {
        var silent = ranks.Where(rank => !rank.HasSpoken).Select(rank => rank.Rank).ToList();
        return silent.Count == 0 ? null : $"no word came from rank {string.Join(", ", silent)}";
    }

    private static string? JoinSentences(string? first, string? second) =>
        first is null || second is null ? first ?? second : $"{first}; {second}";

    private static string SignalName(int signal) => signal switch
    {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        _ => "see `kill -l`",
    };
}
