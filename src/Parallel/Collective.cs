namespace Moe.Distributed;

/// <summary>The operations of a <see cref="ProcessGroup"/>.</summary>
public enum Collective
{
    AllReduce,
    AllToAll,
    AllGather,
    ReduceScatter,
    Broadcast,
    Barrier,
    CreateGroup,
}
