using System.Globalization;
using Moe.Training.Hosting;

namespace Moe.Launch.Hosts;

/// <summary>A machine of a host list.</summary>
/// <param name="Name">As ssh or mpirun take it.</param>
/// <param name="Slots">The most ranks that it is to have; null where the list does not say.</param>
/// <param name="Origin">Where it was named, for messages.</param>
internal sealed record HostEntry(string Name, int? Slots, string Origin)
{
    /// <summary>Reads <c>--hosts a,b:4,c</c>, where a number after a colon means slots, as for mpirun.</summary>
    public static IReadOnlyList<HostEntry> Parse(string list) => Distinct([.. list.Split(',').Select(part =>
        part.Trim().Split(':') switch
        {
            [{ Length: > 0 } name] => Checked(name, null, "--hosts"),
            [{ Length: > 0 } name, var slots] => Checked(name, Count(slots, $"--hosts {list}"), "--hosts"),
            _ => throw new LaunchException(ExitCodes.Usage, $"--hosts {list}: '{part}' is no host", "--hosts a,b,c or --hosts a:2,b:2"),
        })]);

    /// <summary>Reads a host file: a host a line with <c>slots=N</c> after it, as for mpirun; <c>#</c> begins a comment.</summary>
    /// <exception cref="LaunchException">There is no such file, a line is not understood, or no host is in it.</exception>
    public static IReadOnlyList<HostEntry> ReadFile(string path)
    {
        if (!File.Exists(path))
        {
            throw new LaunchException(ExitCodes.Usage, $"--hostfile {path}: there is no such file", "a file with a host a line, such as: node0 slots=2");
        }

        var entries = new List<HostEntry>();
        var number = 0;
        foreach (var line in File.ReadLines(path))
        {
            number++;
            var words = line.Split('#')[0].Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
            if (words.Length > 0)
            {
                entries.Add(Checked(words[0], SlotsOf(words[1..], $"{path}:{number}"), $"{path}:{number}"));
            }
        }

        return entries.Count > 0
            ? Distinct(entries)
            : throw new LaunchException(ExitCodes.Usage, $"--hostfile {path} names no host", "a host a line, such as: node0 slots=2");
    }

    private static int? SlotsOf(string[] words, string where) => words switch
    {
        [] => null,
        [var word] when word.StartsWith("slots=", StringComparison.Ordinal) => Count(word["slots=".Length..], where),
        _ => throw new LaunchException(ExitCodes.Usage, $"{where}: '{string.Join(' ', words)}' is not understood", "slots=N, the number of ranks"),
    };

    private static int Count(string text, string where) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var count) && count > 0
            ? count
            : throw new LaunchException(ExitCodes.Usage, $"{where}: '{text}' is no number of slots", "a whole number of at least 1");

    // A name becomes a word of ssh's command line, where it must not be taken for an option.
    private static HostEntry Checked(string name, int? slots, string origin) => name[0] == '-'
        ? throw new LaunchException(ExitCodes.Usage, $"{origin}: '{name}' is no host", "names or addresses of machines")
        : new HostEntry(name, slots, origin);

    private static IReadOnlyList<HostEntry> Distinct(IReadOnlyList<HostEntry> entries) =>
        entries.GroupBy(entry => entry.Name).FirstOrDefault(group => group.Count() > 1) is { } twice
            ? throw new LaunchException(ExitCodes.Usage, $"the host {twice.Key} is named twice ({string.Join(", ", twice.Select(entry => entry.Origin).Distinct())})", "each host once, with slots=N for several ranks")
            : entries;
}
