namespace Moe.Training.Hosting;

/// <summary>The command line of a rank, which the launcher writes.</summary>
/// <param name="Mode">What to do: <c>train</c> or <c>verify</c>.</param>
/// <param name="ConfigFile">The resolved configuration.</param>
/// <param name="Resume"><c>auto</c>, <c>none</c>, or a path to a checkpoint, to a run, or to its folder of checkpoints.</param>
/// <param name="Backend"><c>mpi</c>, <c>gloo</c> or <c>single</c>.</param>
public sealed record RankArguments(string Mode, string ConfigFile, string Resume, string Backend)
{
    /// <summary>How a rank is started by hand, as under srun or torchrun.</summary>
    public const string Usage = "usage: Moe.Training train|verify --config FILE [--resume auto|none|PATH] [--backend mpi|gloo|single]";

    /// <summary>Reads the arguments.</summary>
    /// <exception cref="FormatException">They are not as <see cref="Usage"/> says.</exception>
    public static RankArguments Parse(string[] arguments)
    {
        var options = new Dictionary<string, string> { ["--resume"] = "auto", ["--backend"] = "single" };
        if (arguments.Length % 2 == 0 || arguments[0] is not ("train" or "verify"))
        {
            throw new FormatException(Usage);
        }

        for (var i = 1; i < arguments.Length; i += 2)
        {
            if (arguments[i] is not ("--config" or "--resume" or "--backend"))
            {
                throw new FormatException($"unknown option '{arguments[i]}'; {Usage}");
            }

            options[arguments[i]] = arguments[i + 1];
        }

        return options.TryGetValue("--config", out var config)
            ? new RankArguments(arguments[0], config, options["--resume"], options["--backend"])
            : throw new FormatException($"--config is missing; {Usage}");
    }
}
