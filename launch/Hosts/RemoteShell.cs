using Moe.Launch.Supervision;

namespace Moe.Launch.Hosts;

/// <summary>How a rank is started on another machine through ssh, and how signals reach it there.</summary>
/// <remarks>
/// Ending the local ssh does not end what it started. So a shell on the other machine stands between: from its standard input it reads the rank's
/// environment, which holds the token and must not be seen in an argument list, and then names of signals, which it passes to the rank and all
/// that the rank started. Where the input ends, because the launcher or the connection is gone, it kills them.
/// </remarks>
internal static class RemoteShell
{
    private const string Script =
        "while IFS= read -r v && [ -n \"$v\" ]; do export \"$v\"; done; exec 3<&0; cd \"$1\" && shift || exit 126; "
        + "setsid \"$@\" </dev/null 3<&- & rank=$!; "
        + "{ while read -r s <&3; do kill -s \"$s\" -- \"-$rank\"; done; kill -s KILL -- \"-$rank\"; } 2>/dev/null & guard=$!; "
        + "wait \"$rank\"; code=$?; kill \"$guard\" 2>/dev/null; kill -s KILL -- \"-$rank\" 2>/dev/null; exit \"$code\"";

    /// <summary>The local command.</summary>
    /// <param name="ssh">The words of ssh.</param>
    /// <param name="host">The other machine.</param>
    /// <param name="folder">Working directory there.</param>
    /// <param name="command">Program and arguments.</param>
    public static IReadOnlyList<string> Command(IReadOnlyList<string> ssh, string host, string folder, IEnumerable<string> command) =>
        [.. ssh, host, ShellWords.Join(["exec", "sh", "-c", Script, "sh", folder, .. command])]; // ssh hands one line to the login shell

    /// <summary>The lines of standard input that carry the environment.</summary>
    /// <param name="environment">Of two values of a name the later one counts; one without a value is left out.</param>
    public static IReadOnlyList<string> Greeting(IReadOnlyList<KeyValuePair<string, string?>> environment) =>
        [.. environment.Where(variable => variable.Value is not null).Select(variable => $"{variable.Key}={variable.Value}"), ""];

    /// <summary>The line of standard input that passes a signal on.</summary>
    public static string Line(int signal) => signal == ProcessSession.Kill ? "KILL" : "TERM";
}
