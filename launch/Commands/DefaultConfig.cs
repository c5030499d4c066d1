using Moe.Launch.Runs;
using Moe.Training.Hosting;

namespace Moe.Launch.Commands;

/// <summary>The configuration file of a command line that names none.</summary>
internal static class DefaultConfig
{
    private static readonly string InRepository = Path.Combine("configs", "quickstart.yaml");

    /// <summary>Path of <paramref name="given"/>, or of configs/quickstart.yaml of the project where it is null.</summary>
    /// <exception cref="LaunchException">None is given, and the project's cannot be found.</exception>
    public static string Resolve(string? given, LaunchHost host)
    {
        if (given is not null)
        {
            return given;
        }

        return Repository.Find(host.WorkingDirectory) is { } root && Path.Combine(root, InRepository) is var path && File.Exists(path)
            ? host.Shorten(path)
            : throw new LaunchException(ExitCodes.Usage, $"no --config is given, and there is no {InRepository} at or above {host.WorkingDirectory}", "--config FILE");
    }
}
