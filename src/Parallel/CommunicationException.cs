namespace Moe.Distributed;

/// <summary>
/// A collective failed or timed out. The message names rank, group, step, layer, operation and, for an all-to-all, the rows to and
/// from each rank. The group is of no more use, and under MPI and NCCL neither is any other group of the process.
/// </summary>
public sealed class CommunicationException(string message) : Exception(message)
{
    /// <summary>World rank of the process that threw.</summary>
    public int Rank { get; init; }

    /// <summary>Name of the group.</summary>
    public string Group { get; init; } = "";

    /// <summary>The optimizer step, or null outside the loop.</summary>
    public long? Step { get; init; }

    /// <summary>The layer, or null outside the layers.</summary>
    public int? Layer { get; init; }

    /// <summary>As in <c>all_to_all</c>.</summary>
    public string Operation { get; init; } = "";

    /// <summary>Whether the time was up; false where a connection broke or the transport refused.</summary>
    public bool TimedOut { get; init; }
}
