using System.Diagnostics;
using System.Globalization;
using Moe.Distributed;
using Moe.Distributed.Gloo;
using Moe.Distributed.Mpi;
using Moe.Launch.Supervision;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>
/// Runs a scenario, a static method <c>void Method(ProcessGroup world)</c> or <c>void Method(ProcessGroup world, string[] arguments)</c>,
/// in real processes, one a rank. A rank takes about a second to start: let a scenario check many things.
/// </summary>
/// <example><c>[TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))] public void It_works(string backend) => Ranks.Run(Scenario, 4, backend);</c></example>
public static class Ranks
{
    private static readonly RankProgram Program = RankProgram.Assembly(typeof(Ranks).Assembly.Location, needsNativeLibraries: true);
    private static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan DefaultGroupTimeout = TimeSpan.FromSeconds(30);

    /// <summary>The backends that this machine has, besides <c>single</c>, and <c>nccl</c>, which <see cref="NcclTests"/> are about.</summary>
    public static string[] Backends => [.. MpiProcessGroup.IsBuilt ? (string[])["mpi"] : [], .. GlooProcessGroup.IsBuilt ? (string[])["gloo"] : []];

    /// <summary>Runs the scenario, and fails the test with every rank's output unless all ranks end well and in time.</summary>
    /// <param name="timeout">Of the whole run; left out, 60 s. Then every process is killed.</param>
    /// <param name="groupTimeout">Of one collective; left out, 30 s.</param>
    public static RanksReport Run(
        Action<ProcessGroup> scenario, int worldSize, string backend, TimeSpan? timeout = null, TimeSpan? groupTimeout = null) =>
        Succeed(Spawn(scenario, worldSize, backend, timeout, groupTimeout));

    /// <inheritdoc cref="Run(Action{ProcessGroup}, int, string, TimeSpan?, TimeSpan?)"/>
    public static RanksReport Run(
        Action<ProcessGroup, string[]> scenario,
        string[] arguments,
        int worldSize,
        string backend,
        TimeSpan? timeout = null,
        TimeSpan? groupTimeout = null) =>
        Succeed(Spawn(scenario, worldSize, backend, timeout, groupTimeout, arguments));

    /// <summary>Runs a scenario that is meant to fail, and tells how it ended.</summary>
    /// <param name="scenario">A method group of one of the forms that <see cref="Ranks"/> names.</param>
    public static RanksReport Spawn(
        Delegate scenario, int worldSize, string backend, TimeSpan? timeout = null, TimeSpan? groupTimeout = null, params string[] arguments)
    {
        if (!scenario.Method.IsStatic)
        {
            throw new ArgumentException("a scenario is a static method: the ranks are other processes", nameof(scenario));
        }

        var folder = Directory.CreateTempSubdirectory("ranks-");
        using var store = backend is "gloo" or "nccl" ? new StoreServer() : null;
        var settings = new RankSettings(
            scenario.Method.DeclaringType!.FullName!,
            scenario.Method.Name,
            backend,
            worldSize,
            folder.FullName,
            store?.Port ?? 0,
            (groupTimeout ?? DefaultGroupTimeout).TotalSeconds,
            arguments);
        try
        {
            return backend == "mpi" ? UnderMpi(settings, timeout ?? DefaultTimeout) : Alone(settings, timeout ?? DefaultTimeout);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static RanksReport Succeed(RanksReport report)
    {
        Assert.That(report.Succeeded, Is.True, report.ToString());
        return report;
    }

    private static RanksReport UnderMpi(RankSettings settings, TimeSpan timeout)
    {
        var clock = Stopwatch.StartNew();
        using var mpirun = RankSession.Start(
            ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", settings.Size.ToString(CultureInfo.InvariantCulture), .. RankCommand(settings)]);
        var ended = mpirun.WaitForExit(timeout);
        var elapsed = clock.Elapsed;
        var leftovers = ended ? mpirun.Leftovers() : 0;
        mpirun.Kill();
        var ranks = Enumerable.Range(0, settings.Size).Select(rank => new RankReport(rank, WrittenExitCode(settings, rank), Output(settings, rank)));
        return new RanksReport([.. ranks], mpirun.ExitCode, !ended, elapsed, leftovers, mpirun.Output);
    }

    private static RanksReport Alone(RankSettings settings, TimeSpan timeout)
    {
        var clock = Stopwatch.StartNew();
        var sessions = Enumerable.Range(0, settings.Size)
            .Select(rank => RankSession.Start([.. RankCommand(settings), rank.ToString(CultureInfo.InvariantCulture)]))
            .ToArray();
        var ended = sessions.All(session => session.WaitForExit(timeout - clock.Elapsed));
        var elapsed = clock.Elapsed;
        var leftovers = ended ? sessions.Sum(session => session.Leftovers()) : 0;
        foreach (var session in sessions)
        {
            session.Kill();
        }

        var ranks = sessions.Select((session, rank) => new RankReport(rank, session.ExitCode, Output(settings, rank) + session.Output)).ToArray();
        var code = sessions.Select(session => session.ExitCode).FirstOrDefault(code => code != 0);
        Array.ForEach(sessions, session => session.Dispose());
        return new RanksReport(ranks, code, !ended, elapsed, leftovers, "");
    }

    private static string[] RankCommand(RankSettings settings) =>
        [Program.FileName, .. Program.Arguments, RankScenario.Command, settings.ToArgument()];

    private static string Output(RankSettings settings, int rank)
    {
        var file = settings.OutputFile(rank);
        return File.Exists(file) ? File.ReadAllText(file) : "";
    }

    private static int? WrittenExitCode(RankSettings settings, int rank)
    {
        var file = settings.ExitFile(rank);
        return File.Exists(file) ? int.Parse(File.ReadAllText(file), CultureInfo.InvariantCulture) : null;
    }
}
