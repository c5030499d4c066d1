using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>What the supervisor knows of one rank.</summary>
internal sealed class RankState(int rank)
{
    public int Rank { get; } = rank;

    /// <summary>Process id; null until the rank said hello or, under Gloo, was started.</summary>
    public int? ProcessId { get; set; }

    /// <summary>Whether its connection is open now.</summary>
    public bool IsConnected { get; set; }

    /// <summary>The code that it said goodbye with.</summary>
    public int? Goodbye { get; set; }

    /// <summary>Its own account of its failure.</summary>
    public RankFailure? Failure { get; set; }

    /// <summary>Exit code of its process, 128 + n after signal n; null while it runs.</summary>
    public int? ExitCode { get; set; }

    /// <summary>When its process ended, on the supervisor's clock; null while it runs.</summary>
    public TimeSpan? EndedAt { get; set; }

    /// <summary>Whether it is gone without a word.</summary>
    public bool IsLost { get; set; }

    /// <summary>Whether nothing more is to come from it.</summary>
    public bool IsOver => !IsConnected && (HasSpoken || IsLost);

    /// <summary>Whether it gave word of how it ends. A rank that goes without was killed or crashed.</summary>
    public bool HasSpoken => Goodbye is not null || Failure is not null;
}
