using Moe.Launch.Supervision;
using Moe.Training.Benchmarks;
using Moe.Training.Hosting;
using Moe.Training.Profiling;

namespace Moe.Launch.Terminal;

/// <summary>Shows a run while it lasts: <see cref="LiveView"/> on a terminal, <see cref="PlainView"/> in a pipe, <see cref="JsonView"/> for programs.</summary>
/// <remarks>The supervisor's loop calls it, one call at a time; a call returns soon.</remarks>
internal interface IRunView : IAsyncDisposable
{
    /// <summary>The ranks are about to start.</summary>
    public void Started(RunHeader header);

    /// <summary>The model stands.</summary>
    public void Info(InfoMessage info);

    /// <summary>A logged step, or an evaluation.</summary>
    public void Metrics(MetricsMessage metrics);

    /// <summary>What a benchmark of kernels found; other runs have none.</summary>
    public void Kernels(KernelReport report)
    {
    }

    /// <summary>Something that happened once.</summary>
    public void Event(EventMessage e);

    /// <summary>A line for the user, as it is.</summary>
    public void Text(string line);

    /// <summary>Where a step goes.</summary>
    public void Profile(ProfileTable table);

    /// <summary>A word of the launcher itself.</summary>
    public void Notice(string text);

    /// <summary>All ranks are gone; the failure report, if one is due, follows elsewhere.</summary>
    public void Ended(RunOutcome outcome);
}

/// <summary>What is known of a run before its ranks start.</summary>
/// <param name="Id">Name of the run.</param>
/// <param name="Folder">Its folder, as the user would write it.</param>
/// <param name="Mode"><c>train</c> or <c>verify</c>.</param>
/// <param name="Backend"><c>mpi</c> or <c>gloo</c>.</param>
/// <param name="Nodes">Groups of ranks.</param>
/// <param name="ProcessesPerNode">Ranks of a group.</param>
/// <param name="Threads">Threads of a rank.</param>
/// <param name="Steps">Number of the last step.</param>
internal sealed record RunHeader(string Id, string Folder, string Mode, string Backend, int Nodes, int ProcessesPerNode, int Threads, long Steps)
{
    /// <summary>Address of the live page; null where there is none.</summary>
    public string? Dashboard { get; init; }

    public int WorldSize => Nodes * ProcessesPerNode;

    /// <summary>On which machines the ranks are; null where all are on this one.</summary>
    public string? Machines { get; init; }

    /// <summary>The first line of every run: where its ranks are, and what that means.</summary>
    public string FirstLine => Machines is not null ? $"{Machines}; {Threads} thread(s) each"
        : Nodes == 1 ? $"1 node: {WorldSize} rank(s) on this machine over {Backend}, {Threads} thread(s) each"
        : $"{Nodes} nodes simulated on this machine: {Nodes} local groups of {ProcessesPerNode} rank(s) over {Backend}, {Threads} thread(s) each";
}
