using System.CommandLine;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using Moe.Training.Profiling;

namespace Moe.Launch.Commands;

/// <summary>The options of commands that can say where a step goes.</summary>
/// <param name="choosesSteps">Whether the user says which steps; a benchmark adds steps of its own.</param>
internal sealed class ProfileOptions(bool choosesSteps)
{
    private readonly Option<string?> _file = new("--profile")
    {
        Description = "Says where a step goes: a table, and a trace of all ranks for Perfetto or chrome://tracing.",
        HelpName = "FILE",
    };

    private readonly Option<string?> _steps = new("--profile-steps")
    {
        Description = "Steps that --profile looks at. Default: the third to the fifth of those that are made.",
        HelpName = "A-B",
    };

    private readonly Option<bool> _kernels = new("--profile-kernels")
    {
        Description = "With --profile on GPUs: also notes every kernel of one further step, in FILE.rankN.kernels.json.",
    };

    /// <summary>Gives a command these options.</summary>
    public void AddTo(Command command)
    {
        command.Options.Add(_file);
        command.Options.Add(_kernels);
        if (choosesSteps)
        {
            command.Options.Add(_steps);
        }
    }

    /// <summary>What the user asked for; null for no profile.</summary>
    /// <param name="result">The command line.</param>
    /// <param name="workingDirectory">Where a relative file stands.</param>
    /// <exception cref="LaunchException">The options don't go together.</exception>
    public ProfileRequest? Read(ParseResult result, string workingDirectory)
    {
        var steps = choosesSteps ? result.GetValue(_steps) : null;
        var kernels = result.GetValue(_kernels);
        if (result.GetValue(_file) is not { } file)
        {
            return steps is null && !kernels ? null : throw new LaunchException(
                ExitCodes.Usage, $"{(kernels ? "--profile-kernels" : "--profile-steps")} has no effect without --profile", "--profile trace.json beside it");
        }

        if (file.Length == 0)
        {
            throw new LaunchException(ExitCodes.Usage, "--profile needs the name of a file", "--profile trace.json");
        }

        StepRange range = default;
        if (steps is not null && (!StepRange.TryParse(steps, out range) || range.Count > ProfileRequest.MostSteps))
        {
            throw new LaunchException(
                ExitCodes.Usage, $"--profile-steps {steps}: it takes A-B with A from 1 to B, and at most {ProfileRequest.MostSteps} steps", "--profile-steps 3-5");
        }

        return new ProfileRequest(Path.GetFullPath(file, workingDirectory), steps is null ? null : range, kernels);
    }

    /// <summary>Refuses what cannot come to an end well, before any rank starts.</summary>
    /// <param name="request">What the user asked for; null for no profile.</param>
    /// <param name="config">Of the ranks.</param>
    /// <exception cref="LaunchException">The file cannot be written, or there are no such steps or kernels.</exception>
    public static void Check(ProfileRequest? request, RunConfig config)
    {
        if (request is null)
        {
            return;
        }

        if (request.Kernels && config.Parallel.Device != DeviceName.Cuda)
        {
            throw new LaunchException(ExitCodes.Usage, "--profile-kernels notes kernels of GPUs, but parallel.device is cpu", "--profile alone");
        }

        if (request.Steps is { } steps && steps.Last > config.Train.Steps)
        {
            throw new LaunchException(
                ExitCodes.Usage, $"--profile-steps {steps}: the training ends after step {config.Train.Steps}", "earlier steps, or a larger train.steps");
        }

        Try(request.File);
    }

    /// <summary>The options of a rank that say the same.</summary>
    public static IReadOnlyList<string> ArgumentsOf(ProfileRequest? request) => request is null
        ? []
        : ["--profile", request.File, .. request.Steps is { } steps ? (string[])["--profile-steps", steps.ToString()] : [], .. request.Kernels ? (string[])["--profile-kernels", "true"] : []];

    // A rank writes beside the file and renames: what must be possible is a new file in its folder.
    private static void Try(string file)
    {
        try
        {
            if (Directory.Exists(file))
            {
                throw new IOException("it is a folder");
            }

            var probe = $"{file}.{Environment.ProcessId}.tmp";
            File.WriteAllBytes(probe, []);
            File.Delete(probe);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new LaunchException(ExitCodes.Usage, $"--profile: {file} cannot be written: {e.Message}", "a file in a folder that is there and can be written");
        }
    }
}
