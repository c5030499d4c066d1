using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>Something that the supervisor has to deal with; whoever sees it first posts it, and one loop handles them in order.</summary>
internal abstract record Happening;

/// <summary>A rank sent a message.</summary>
internal sealed record RankSaid(int Rank, ControlMessage Message) : Happening;

/// <summary>A rank's connection closed.</summary>
internal sealed record RankLeft(int Rank) : Happening;

/// <summary>A rank ended that is no child of this launcher: mpirun, srun or the launcher of its node tells.</summary>
internal sealed record RankEnded(int Rank, int ExitCode) : Happening;

/// <summary>The launcher of another node is here and waits for the word to start.</summary>
internal sealed record NodeArrived(NodeHelloMessage Launcher) : Happening;

/// <summary>The launcher of another node cannot be part of this run, and was sent away.</summary>
internal sealed record NodeRefused(NodeHelloMessage Launcher, string Reason) : Happening;

/// <summary>The launcher of another node cannot start its ranks.</summary>
internal sealed record NodeFailed(int Node, RankFailure Failure) : Happening;

/// <summary>The connection of another node's launcher closed.</summary>
internal sealed record NodeLeft(int Node) : Happening;

/// <summary>A child of the launcher ended.</summary>
internal sealed record ProcessEnded(SpawnedProcess Process, int ExitCode) : Happening;

/// <summary>A first signal: stop at the end of the step.</summary>
internal sealed record StopAsked(string Signal) : Happening;

/// <summary>A second signal: leave at once.</summary>
internal sealed record LeaveAsked(string Signal, int Number) : Happening;

/// <summary>The run cannot go on, and no rank is to blame.</summary>
internal sealed record EndAsked(RankFailure Failure) : Happening;

/// <summary>A moment has passed: time to look at the deadlines.</summary>
internal sealed record Ticked : Happening;
