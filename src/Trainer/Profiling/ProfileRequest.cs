namespace Moe.Training.Profiling;

/// <summary>What is to be profiled, and where to.</summary>
/// <param name="File">The trace, an absolute path on the first rank's machine.</param>
/// <param name="Steps">Null for three steps from the third on of those that this process makes.</param>
/// <param name="Kernels">Whether one further step is noted by libtorch's own profiler, each rank into a file of its own beside <paramref name="File"/>.</param>
public sealed record ProfileRequest(string File, StepRange? Steps = null, bool Kernels = false)
{
    /// <summary>The most steps of a profile: all ranks' spans are held in the first rank's memory.</summary>
    public const int MostSteps = 100;

    private const int Before = 2, Standard = 3;

    /// <summary>Trace of a rank's operators and kernels.</summary>
    public string KernelFile(int rank) => FormattableString.Invariant($"{File}.rank{rank}.kernels.json");

    /// <summary>The steps to profile of a training that goes on.</summary>
    /// <param name="done">Steps done.</param>
    /// <param name="last">Its last step, above <paramref name="done"/>.</param>
    /// <returns>Null where all that were asked for are done already.</returns>
    public StepRange? StepsAfter(long done, long last)
    {
        if (Steps is { } asked)
        {
            return asked.Last <= done ? null : asked with { First = Math.Max(asked.First, done + 1) };
        }

        var end = Math.Min(done + Before + Standard, Kernels ? Math.Max(done + 1, last - 1) : last);
        return new StepRange(Math.Min(done + Before + 1, end), end);
    }
}
