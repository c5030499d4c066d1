using Moe.Torch;

namespace Moe.Training.Profiling;

/// <summary>Makes the table of a profile from the recordings of all ranks.</summary>
internal static class ProfileSummary
{
    private const double MicrosecondsPerMs = 1000;

    /// <param name="ranks">By rank; at least one step in each.</param>
    /// <param name="steps">That were recorded.</param>
    public static ProfileTable Of(IReadOnlyList<RecordedSpans> ranks, StepRange steps)
    {
        StepAccount[] accounts = [.. ranks.Select(rank => new StepAccount(rank.Spans))];
        var hasDevice = ranks[0].Spans.Any(span => double.IsFinite(span.DeviceEnd));
        var total = accounts[0].Step.Host;
        string[] names = [.. Ordered(accounts)];
        return new ProfileTable(
            steps.First,
            steps.Last,
            ranks.Count,
            Part("step", account => account.Step, account => account.Steps),
            [.. names.Select(name => Part(name, account => account.Parts.GetValueOrDefault(name), account => account.Steps))],
            [.. accounts[0].Beside.Keys.Select(name => Part(
                name, account => account.Beside.GetValueOrDefault(name), account => Math.Max(1, account.Beside.GetValueOrDefault(name).Calls)))]);

        ProfilePart Part(string name, Func<StepAccount, StepAccount.Sum> sum, Func<StepAccount, int> over)
        {
            double[] ms = [.. accounts.Select(account => sum(account).Host / over(account) / MicrosecondsPerMs)];
            double[] device = [.. accounts.Select(account => sum(account).Device / over(account) / MicrosecondsPerMs)];
            var first = sum(accounts[0]);
            return new ProfilePart(
                name,
                ms[0],
                ms.Max(),
                Array.IndexOf(ms, ms.Max()),
                100 * first.Host / total,
                (double)first.Calls / over(accounts[0]),
                first.Waiting / over(accounts[0]) / MicrosecondsPerMs,
                hasDevice ? device[0] : null,
                hasDevice ? device.Max() : null);
        }
    }

    // As the first rank comes to them: phase by phase, of each what has no name of its own last, and what lies between all last of all.
    private static IEnumerable<string> Ordered(IReadOnlyList<StepAccount> accounts)
    {
        var names = accounts.SelectMany(account => account.Parts.Keys).Distinct().Where(name => name != ProfileTable.Rest).ToList();
        var phases = names.Select(PhaseOf).Distinct().ToList();
        return names.OrderBy(name => phases.IndexOf(PhaseOf(name))).ThenBy(name => name.EndsWith(": other", StringComparison.Ordinal)).Append(ProfileTable.Rest);

        static string PhaseOf(string name) => name.Split(':')[0];
    }
}
