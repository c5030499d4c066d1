namespace Moe.Distributed;

/// <summary>A rank's way to the other ranks of a group that stands on several nodes.</summary>
/// <param name="Inside">The ranks of its node.</param>
/// <param name="Between">One rank of each node: those with its number there.</param>
public readonly record struct NodeGroups(ProcessGroup Inside, ProcessGroup Between);
