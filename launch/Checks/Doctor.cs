namespace Moe.Launch.Checks;

/// <summary>What one check found.</summary>
/// <param name="Check">Its name.</param>
/// <param name="Findings">At least one.</param>
internal sealed record Diagnosis(string Check, IReadOnlyList<Finding> Findings);

/// <summary>Runs the checks, one after the other, none longer than its limit.</summary>
internal static class Doctor
{
    /// <summary>Every check, in the order of the report; another one is one more line here.</summary>
    public static IReadOnlyList<Check> Checks { get; } =
    [
        new MachineCheck(),
        new ClockCheck(),
        new LibraryCheck(),
        new MatrixProductCheck(),
        new MpiCheck(),
        new GlooCheck(),
        new GpuCheck(),
        new NcclCheck(),
        new SharedMemoryCheck(),
        new LimitsCheck(),
        new PortCheck(),
        new RunsFolderCheck(),
        new LoopbackCheck(),
        new SlurmCheck(),
        new RankVariablesCheck(),
        new HostsCheck(),
        new MlflowCheck(),
    ];

    /// <summary>Runs checks; one that throws is one that fails.</summary>
    /// <param name="checks">Usually <see cref="Checks"/>.</param>
    /// <param name="context">What is looked at.</param>
    public static IEnumerable<Diagnosis> Examine(IEnumerable<Check> checks, DoctorContext context) =>
        checks.Select(check => new Diagnosis(check.Name, Examine(check, context)));

    private static List<Finding> Examine(Check check, DoctorContext context)
    {
        // On a thread of its own, since a file system or a name server that hangs cannot be interrupted; the process ends without it.
        var examination = Task.Factory.StartNew(() => check.Examine(context).ToList(), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        try
        {
            return examination.Wait(check.Limit)
                ? examination.Result
                : [new Finding(Verdict.Fails, $"{check.Name}: no answer within {check.Limit.TotalSeconds:0} s", "see what it hangs at: strace -f launch doctor")];
        }
        catch (AggregateException e)
        {
            return [new Finding(Verdict.Fails, $"{check.Name}: {e.InnerExceptions[0].Message.Split('\n')[0]}", "the message above says what is amiss")];
        }
    }
}
