using Moe.Training.Hosting;

namespace Moe.Launch.Commands;

/// <summary>The folder of a run that a command line names to be looked at.</summary>
internal static class RunArgument
{
    /// <summary>Finds the folder.</summary>
    /// <param name="path">As the command line has it.</param>
    /// <param name="host">What the path is relative to.</param>
    /// <param name="signs">Names of files of which a run folder has one at least, as the command needs them; none where any folder will do.</param>
    /// <exception cref="LaunchException">There is no such folder, or it is not one of a run.</exception>
    public static RunFolder Find(string path, LaunchHost host, params IReadOnlyList<string> signs)
    {
        var folder = new RunFolder(Path.GetFullPath(path, host.WorkingDirectory));
        if (!Directory.Exists(folder.Path))
        {
            throw Refusal($"there is no folder '{path}'");
        }

        return signs.Count == 0 || signs.Any(sign => File.Exists(Path.Combine(folder.Path, sign)))
            ? folder
            : throw Refusal($"'{path}' is no run folder: it has {(signs.Count == 1 ? "no" : "neither")} {string.Join(" nor ", signs)}");
    }

    private static LaunchException Refusal(string what) => new(ExitCodes.Usage, what, "the folder that training printed, such as runs/NAME");
}
