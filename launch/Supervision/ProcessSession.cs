using System.Globalization;
using System.Runtime.InteropServices;

namespace Moe.Launch.Supervision;

/// <summary>
/// A POSIX session that one of our children leads: the child and all that it started. mpirun gives every rank a process group of its own, so
/// that only the session holds them all together.
/// </summary>
internal static partial class ProcessSession
{
    public const int Terminate = 15;
    public const int Kill = 9;

    /// <summary>Sends a signal to the leader and to every other process of its session.</summary>
    /// <param name="leader">Process id of the leader, which is also the session's id.</param>
    /// <param name="signal">Number of the signal.</param>
    public static void Signal(int leader, int signal)
    {
        foreach (var member in Members(leader))
        {
            _ = SendSignal(member, signal); // it may have ended since
        }
    }

    /// <summary>Processes of the session that still run; one that has ended but was not yet waited for does not count.</summary>
    public static IReadOnlyList<int> Members(int leader)
    {
        var members = new List<int>();
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder.AsSpan()), NumberStyles.None, CultureInfo.InvariantCulture, out var id)
                && ReadStatus(folder) is var (state, session)
                && state is not ('Z' or 'X')
                && (session == leader || id == leader)) // the leader itself is not yet in its session before `setsid` has run
            {
                members.Add(id);
            }
        }

        return members;
    }

    // "pid (name) state ppid pgrp session ..."; the name may hold spaces and parentheses, so fields count from the last one.
    private static (char State, int Session)? ReadStatus(string folder)
    {
        try
        {
            var text = File.ReadAllText(Path.Combine(folder, "stat"));
            var fields = text[(text.LastIndexOf(')') + 2)..].Split(' ');
            return (fields[0][0], int.Parse(fields[3], CultureInfo.InvariantCulture));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null; // ended between the listing and the reading
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int SendSignal(int process, int signal);
}
