using System.Globalization;
using Moe.Training.Benchmarks;
using Moe.Training.Profiling;

namespace Moe.Training.Hosting;

/// <summary>The command line of a rank, which the launcher writes.</summary>
/// <param name="Mode">What to do: <c>train</c>, <c>verify</c> or <c>bench</c>.</param>
/// <param name="ConfigFile">The resolved configuration.</param>
/// <param name="Resume"><c>auto</c>, <c>none</c>, or a path to a checkpoint, to a run, or to its folder of checkpoints.</param>
/// <param name="Backend"><c>mpi</c>, <c>gloo</c>, <c>nccl</c> or <c>single</c>.</param>
/// <param name="Warmup">Steps that a benchmark makes before it measures.</param>
/// <param name="Repeats">Steps that a benchmark measures.</param>
/// <param name="Profile">What to profile; null for nothing.</param>
/// <param name="Kernels">Family of kernels that a benchmark times, one of <see cref="KernelBench.Names"/>; null for whole steps.</param>
public sealed record RankArguments(
    string Mode, string ConfigFile, string Resume, string Backend, int Warmup = 0, int Repeats = 1, ProfileRequest? Profile = null, string? Kernels = null)
{
    /// <summary>How a rank is started by hand, as under srun or torchrun.</summary>
    public const string Usage =
        "usage: Moe.Training train|verify|bench --config FILE [--resume auto|none|PATH] [--backend mpi|gloo|nccl|single] [--warmup N] [--repeats N] [--kernels FAMILY]"
        + " [--profile FILE] [--profile-steps A-B] [--profile-kernels true]";

    /// <summary>Reads the arguments.</summary>
    /// <exception cref="FormatException">They are not as <see cref="Usage"/> says.</exception>
    public static RankArguments Parse(string[] arguments)
    {
        var options = new Dictionary<string, string>
        {
            ["--resume"] = "auto",
            ["--backend"] = "single",
            ["--warmup"] = "5",
            ["--repeats"] = "20",
            ["--profile"] = "",
            ["--kernels"] = "",
            ["--profile-steps"] = "",
            ["--profile-kernels"] = "false",
        };
        if (arguments.Length % 2 == 0 || arguments[0] is not ("train" or "verify" or "bench"))
        {
            throw new FormatException(Usage);
        }

        for (var i = 1; i < arguments.Length; i += 2)
        {
            if (arguments[i] != "--config" && !options.ContainsKey(arguments[i]))
            {
                throw new FormatException($"unknown option '{arguments[i]}'; {Usage}");
            }

            options[arguments[i]] = arguments[i + 1];
        }

        return options.TryGetValue("--config", out var config)
            ? new RankArguments(
                arguments[0], config, options["--resume"], options["--backend"], Count(options, "--warmup", 0), Count(options, "--repeats", 1), Profiled(options), Family(options))
            : throw new FormatException($"--config is missing; {Usage}");
    }

    private static ProfileRequest? Profiled(Dictionary<string, string> options)
    {
        if (options["--profile"].Length == 0)
        {
            return null;
        }

        StepRange range = default;
        if (options["--profile-steps"] is { Length: > 0 } text && !StepRange.TryParse(text, out range))
        {
            throw new FormatException($"--profile-steps should be A-B with A from 1 to B, not '{text}'; {Usage}");
        }

        return new ProfileRequest(Path.GetFullPath(options["--profile"]), range == default ? null : range, options["--profile-kernels"] == "true");
    }

    private static string? Family(Dictionary<string, string> options) => options["--kernels"] switch
    {
        "" => null,
        var name when KernelBench.Names.Contains(name) => name,
        var name => throw new FormatException($"--kernels should be one of {string.Join(", ", KernelBench.Names)}, not '{name}'; {Usage}"),
    };

    private static int Count(Dictionary<string, string> options, string name, int least) =>
        int.TryParse(options[name], NumberStyles.None, CultureInfo.InvariantCulture, out var count) && count >= least
            ? count
            : throw new FormatException($"{name} should be a whole number of at least {least}, not '{options[name]}'; {Usage}");
}
