using Moe.Launch.Supervision;
using Moe.Launch.Terminal;

namespace Moe.Launch;

/// <summary>The launcher's surroundings, looked at once in <c>Program</c>.</summary>
/// <param name="Screen">Where it prints.</param>
/// <param name="WorkingDirectory">What paths on the command line are relative to.</param>
/// <param name="Variable">Environment variables by name.</param>
/// <param name="RankProgram">What is started once a rank; tests put programs of their own here.</param>
internal sealed record LaunchHost(Screen Screen, string WorkingDirectory, Func<string, string?> Variable, RankProgram RankProgram)
{
    /// <summary>How long a rank may take from its start to its first word.</summary>
    public TimeSpan StartPatience { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>This program itself, as a sweep starts it for each of its runs, and a job's script; tests put their own entry here.</summary>
    public RankProgram Self { get; init; } = RankProgram.Assembly(Path.Combine(AppContext.BaseDirectory, "launch.dll"), needsNativeLibraries: true);

    /// <summary>The surroundings of this process.</summary>
    /// <param name="rankProgram">What is started once a rank.</param>
    public static LaunchHost OfThisProcess(RankProgram rankProgram)
    {
        Func<string, string?> variable = Environment.GetEnvironmentVariable;
        return new LaunchHost(Screen.Detect(variable), Directory.GetCurrentDirectory(), variable, rankProgram);
    }

    /// <summary>How this program is called from the working directory, for commands that a user is to copy.</summary>
    public string Command
    {
        get
        {
            // A build lies in PROJECT/bin/CONFIGURATION/FRAMEWORK; what was published stands by itself.
            var project = Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "..", "..", ".."));
            return File.Exists(Path.Combine(project, "launch.csproj"))
                ? $"dotnet run --project {Shorten(project)} --"
                : Shorten(Path.Combine(AppContext.BaseDirectory, "launch"));
        }
    }

    /// <summary>The words that start this program from the working directory, for scripts.</summary>
    public IReadOnlyList<string> CommandWords
    {
        get
        {
            List<string> words = [.. Self.Arguments.Prepend(Self.FileName).Select(word => Path.IsPathRooted(word) ? Shorten(word) : word)];
            if (words[0] != Self.FileName && !words[0].Contains('/', StringComparison.Ordinal))
            {
                words[0] = $"./{words[0]}"; // a bare name would be looked for on PATH
            }

            return words;
        }
    }

    /// <summary>A path for people: relative to the working directory where it lies below it.</summary>
    public string Shorten(string path)
    {
        var relative = Path.GetRelativePath(WorkingDirectory, path);
        return relative.StartsWith("..", StringComparison.Ordinal) ? path : relative;
    }
}
