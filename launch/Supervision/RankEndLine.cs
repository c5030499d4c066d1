using System.Globalization;
using System.Text.RegularExpressions;

namespace Moe.Launch.Supervision;

/// <summary>How the launcher learns the exit code of a rank that mpirun or srun started: a shell around each rank prints it, and they forward the line.</summary>
/// <remarks>
/// mpirun tells only of the first bad rank, in prose; and with <c>orte_abort_on_non_zero_status=0</c> Open MPI 4.1.4 never ends once a rank
/// died of a signal. To mpirun a rank in this shell always exits by itself. srun tells only the largest of all exit codes.
/// </remarks>
internal static partial class RankEndLine
{
    /// <summary>The shell command that runs its arguments; <c>sh -c SCRIPT sh PROGRAM ARGUMENTS</c>.</summary>
    public const string Script = "\"$@\"; code=$?; echo \"launch: rank ${OMPI_COMM_WORLD_RANK:-$SLURM_PROCID} ended with $code\"; exit $code";

    /// <summary>Reads such a line.</summary>
    /// <returns>The rank and its exit code, 128 + n after signal n; null for any other line.</returns>
    public static (int Rank, int ExitCode)? Parse(string line)
    {
        var match = Line().Match(line);
        return match.Success ? (Number(match.Groups[1]), Number(match.Groups[2])) : null;

        static int Number(Group group) => int.Parse(group.ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex(@"^launch: rank (\d{1,9}) ended with (\d{1,3})$")]
    private static partial Regex Line();
}
