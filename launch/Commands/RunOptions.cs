using System.CommandLine;
using Moe.Launch.Dashboard;
using Moe.Launch.Hosts;
using Moe.Launch.Terminal;
using Moe.Training.Configuration;
using Moe.Training.Profiling;

namespace Moe.Launch.Commands;

/// <summary>The options that every command which starts ranks has.</summary>
internal sealed class RunOptions
{
    /// <summary>Most nodes, and most ranks of one: far below what would overflow their product.</summary>
    public const int Most = 4096;

    public Option<string?> Config { get; } = ConfigOption();

    public Option<string[]> Set { get; } = SetOption();

    public Option<int> Nodes { get; } = Count("--nodes", "Number of nodes. On one machine each is a local group of ranks; with a host list or under Slurm, as many as they say.");

    public Option<int> ProcessesPerNode { get; } = Count("--procs-per-node", "Ranks of a node.");

    public Option<string> Backend { get; } = OptionValues.Choice(
        "--backend", "How ranks talk: auto takes NCCL where parallel.device is cuda, else MPI where it is installed.", BackendNames.Auto, BackendNames.Mpi, BackendNames.Gloo, BackendNames.Nccl);

    public Option<string?> Hosts { get; } = new("--hosts") { Description = "Machines to start ranks on, node by node: by mpirun, or with --backend gloo or nccl by ssh.", HelpName = "a,b,c" };

    public Option<string?> HostFile { get; } = new("--hostfile") { Description = "The same from a file: a host a line, with slots=N after it for N ranks.", HelpName = "FILE" };

    public Option<string?> Ssh { get; } = new("--ssh") { Description = "How hosts are reached. Default: MOE_SSH, else ssh without questions.", HelpName = "COMMAND" };

    public Option<int?> NodeRank { get; } = OptionValues.OptionalWhole(
        "--node-rank", "Number of this node, from 0, where each node has its own launcher. Default: MOE_NODE_RANK, else Slurm's.", 0, Most - 1);

    public Option<string?> Rendezvous { get; } = new("--rdzv")
    {
        Description = "Where node 0's launcher is found by the others and by ranks on other machines. Default: MOE_RDZV, else from Slurm or the route to the hosts.",
        HelpName = "HOST[:PORT]",
    };

    public Option<bool> Srun { get; } = new("--srun") { Description = "Within a Slurm job: has srun start each rank as a task of it." };

    public Option<string?> RunFolder { get; } = new("--run-dir") { Description = "The run folder, new or of an earlier run of this command. Default: a new one in runs/.", HelpName = "DIR" };

    public Option<string> Resume { get; } = new("--resume")
    {
        Description = "auto: from the newest checkpoint of --run-dir that verifies; none: never; or the path of a checkpoint.",
        HelpName = "auto|none|PATH",
        DefaultValueFactory = _ => "auto",
    };

    public Option<string> Ui { get; } = OptionValues.Choice(
        "--ui", "auto: live on a terminal, else plain key=value lines; json: one object a line.", RunViews.Auto, RunViews.Live, RunViews.Plain, RunViews.Json);

    public Option<int?> Dashboard { get; } = DashboardCommand.OptionalPort();

    public Option<string> DashboardBind { get; } = DashboardCommand.BindOption("--dashboard-bind");

    public static Option<string?> ConfigOption() => new("--config") { Description = "YAML file of the experiment. Default: configs/quickstart.yaml.", HelpName = "FILE" };

    public static Option<string[]> SetOption() => new("--set")
    {
        Description = "Overrides one key of the configuration; may be repeated.",
        HelpName = "key.path=value",
        DefaultValueFactory = _ => [],
    };

    /// <summary>Gives a command these options, except that for checkpoints.</summary>
    public void AddTo(Command command)
    {
        foreach (var option in new Option[]
        {
            Config, Nodes, ProcessesPerNode, Backend, Set, RunFolder, Ui, Dashboard, DashboardBind, Hosts, HostFile, Ssh, NodeRank, Rendezvous, Srun,
        })
        {
            command.Options.Add(option);
        }
    }

    /// <summary>What the user asked for.</summary>
    public RunRequest Read(ParseResult result, string mode, params IReadOnlyList<string> modeArguments) => new(
        mode,
        result.GetValue(Config),
        result.GetValue(Set) ?? [],
        result.GetValue(Nodes),
        result.GetValue(ProcessesPerNode),
        result.GetValue(Backend)!,
        result.GetValue(RunFolder),
        result.GetValue(Resume) ?? "auto", // of a command that has no checkpoints
        result.GetValue(Ui)!,
        modeArguments)
    {
        Dashboard = result.GetResult(Dashboard) is { Implicit: false }
            ? new DashboardRequest(result.GetValue(DashboardBind)!, result.GetValue(Dashboard) ?? DashboardRequest.StandardPort, Token: null)
            : null,
        Where = new PlacementRequest(
            Given(result, Nodes),
            Given(result, ProcessesPerNode),
            result.GetValue(Hosts),
            result.GetValue(HostFile),
            result.GetValue(Ssh),
            result.GetValue(NodeRank),
            result.GetValue(Rendezvous),
            result.GetValue(Srun)),
    };

    /// <summary>The value of an option that stands on the command line; null where it is only the default.</summary>
    public static int? Given(ParseResult result, Option<int> option) => result.GetResult(option) is { Implicit: false } ? result.GetValue(option) : null;

    /// <summary>A number of things, at least one.</summary>
    public static Option<int> Count(string name, string description, int standard = 1) => OptionValues.Whole(name, description, standard, 1, Most);
}

/// <summary>One request to run ranks, as it stands on the command line.</summary>
/// <param name="Mode"><c>train</c>, <c>verify</c> or <c>bench</c>.</param>
/// <param name="ConfigPath">Null for the default.</param>
/// <param name="Overrides">Each <c>key.path=value</c>.</param>
/// <param name="Nodes">At least 1.</param>
/// <param name="ProcessesPerNode">At least 1.</param>
/// <param name="Backend"><c>auto</c>, <c>mpi</c>, <c>gloo</c> or <c>nccl</c>.</param>
/// <param name="RunFolder">Null for a new one.</param>
/// <param name="Resume"><c>auto</c>, <c>none</c> or a path.</param>
/// <param name="Ui">One of <see cref="RunViews"/>' names.</param>
/// <param name="ModeArguments">Further arguments of the ranks that belong to the mode.</param>
internal sealed record RunRequest(
    string Mode,
    string? ConfigPath,
    IReadOnlyList<string> Overrides,
    int Nodes,
    int ProcessesPerNode,
    string Backend,
    string? RunFolder,
    string Resume,
    string Ui,
    IReadOnlyList<string> ModeArguments)
{
    /// <summary>What the command line says of where the ranks are to live.</summary>
    public PlacementRequest Where { get; init; } = new();

    public int WorldSize => Nodes * ProcessesPerNode;

    /// <summary>Refuses, by a <see cref="ConfigException"/>, a configuration that the command has no use for; null for none.</summary>
    public Action<RunConfig>? Demand { get; init; }

    /// <summary>What is to be profiled; null for nothing.</summary>
    public ProfileRequest? Profile { get; private init; }

    /// <summary>The same request with a profile.</summary>
    public RunRequest Profiled(ProfileRequest? profile) => this with { Profile = profile, ModeArguments = [.. ModeArguments, .. ProfileOptions.ArgumentsOf(profile)] };

    /// <summary>Where the live page is served; null for none.</summary>
    public DashboardRequest? Dashboard { get; init; }
}
