using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>Something that the supervisor has to deal with; whoever sees it first posts it, and one loop handles them in order.</summary>
internal abstract record Happening;

/// <summary>A rank sent a message.</summary>
internal sealed record RankSaid(int Rank, ControlMessage Message) : Happening;

/// <summary>A rank's connection closed.</summary>
internal sealed record RankLeft(int Rank) : Happening;

/// <summary>A rank that mpirun started ended.</summary>
internal sealed record RankEnded(int Rank, int ExitCode) : Happening;

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
