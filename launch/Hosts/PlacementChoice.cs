using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Moe.Launch.Slurm;
using Moe.Launch.Supervision;
using Moe.Training.Hosting;

namespace Moe.Launch.Hosts;

/// <summary>Decides where the ranks of a run live, from the command line, the launcher's own variables, and Slurm's; refuses what contradicts itself.</summary>
/// <param name="request">The command line.</param>
/// <param name="variable">Environment variables by name.</param>
/// <param name="workingDirectory">What a host file's path is relative to.</param>
internal sealed class PlacementChoice(PlacementRequest request, Func<string, string?> variable, string workingDirectory)
{
    public const string RendezvousVariable = "MOE_RDZV", TokenVariable = "MOE_RDZV_TOKEN", NodeRankVariable = "MOE_NODE_RANK", SshVariable = "MOE_SSH";

    private const string DefaultSsh = "ssh -o BatchMode=yes -o ConnectTimeout=10";
    private const int ShortestToken = 16;

    /// <summary>Decides.</summary>
    /// <exception cref="LaunchException">Two sources say different things (both are named), or something is missing.</exception>
    public Placed Make()
    {
        var ways = Ways();
        if (ways.Count > 1)
        {
            throw Usage($"{ways[0]} and {ways[1]} are two ways of starting ranks", "one of them");
        }

        var job = SlurmJob.Read(variable);
        return ways switch
        {
            ["--hosts" or "--hostfile"] => OnHosts(),
            ["--srun"] => ThroughSrun(job),
            _ when job?.Step is { } step => AsTask(job, step),
            ["--node-rank"] => ByHand(),
            _ => new Placed(new ThisMachine { Job = job }, request.Nodes ?? 1, request.ProcessesPerNode ?? 1),
        };
    }

    private List<string> Ways() => [.. new (string Name, bool IsGiven)[]
    {
        ("--hosts", request.Hosts is not null),
        ("--hostfile", request.HostFile is not null),
        ("--srun", request.ThroughSrun),
        ("--node-rank", request.NodeRank is not null || variable(NodeRankVariable) is { Length: > 0 }),
    }.Where(way => way.IsGiven).Select(way => way.Name)];

    private Placed OnHosts()
    {
        var option = request.Hosts is null ? "--hostfile" : "--hosts";
        var entries = request.Hosts is { } list ? HostEntry.Parse(list) : HostEntry.ReadFile(Path.GetFullPath(request.HostFile!, workingDirectory));
        var nodes = Agreed(request.Nodes, "--nodes", entries.Count, $"{option} ({entries.Count} host(s))");
        var (fewest, most) = (entries.MinBy(entry => entry.Slots ?? 1)!, entries.MaxBy(entry => entry.Slots ?? 1)!);
        if (request.ProcessesPerNode is { } asked && entries.FirstOrDefault(entry => entry.Slots < asked) is { } small)
        {
            throw Usage($"--procs-per-node says {asked}, but {small.Origin} gives {small.Name} {small.Slots} slot(s)", "fewer ranks a node, or more slots");
        }

        if (request.ProcessesPerNode is null && (fewest.Slots ?? 1) != (most.Slots ?? 1))
        {
            throw Usage(
                $"each host has the same number of ranks, but {fewest.Name} has {fewest.Slots ?? 1} slot(s) ({fewest.Origin}) and {most.Name} {most.Slots ?? 1} ({most.Origin})",
                $"--procs-per-node {fewest.Slots ?? 1}");
        }

        var words = ShellWords.Split(request.Ssh ?? variable(SshVariable) ?? DefaultSsh);
        if (words.Count == 0)
        {
            throw Usage($"{(request.Ssh is null ? SshVariable : "--ssh")} is empty", "a command such as ssh -p 2222");
        }

        var meeting = Rendezvous();
        var placement = new HostList(words, [option, request.Hosts ?? request.HostFile!])
        {
            Machines = [.. entries.Select(entry => entry.Name)],
            Address = meeting?.Host ?? AddressTowards(entries[0].Name.Split('@')[^1]),
            Port = meeting?.Port ?? 0,
        };
        return new Placed(placement, nodes, request.ProcessesPerNode ?? fewest.Slots ?? 1);
    }

    private Placed ThroughSrun(SlurmJob? job)
    {
        if (job is null)
        {
            throw Usage("--srun has Slurm start the ranks, but this is no Slurm job (SLURM_JOB_ID is not set)", "launch slurm submit, or from within sbatch or salloc");
        }

        if (job.Step is { Tasks: > 1 } step)
        {
            throw Usage($"--srun wants one launcher for the job, but srun started {step.Tasks} of them (SLURM_STEP_NUM_TASKS)", "the launcher without srun before it");
        }

        var nodes = Agreed(request.Nodes, "--nodes", job.Nodes, "SLURM_JOB_NODELIST");
        int? perNode = null;
        if (job.TasksPerNode is { } tasks)
        {
            perNode = tasks.Distinct().Count() == 1 ? tasks[0] : throw Usage($"Slurm gives the nodes different numbers of tasks (SLURM_TASKS_PER_NODE={variable("SLURM_TASKS_PER_NODE")})", "--ntasks-per-node instead of --ntasks");
        }

        var meeting = Rendezvous();
        var placement = new SlurmTasks { Job = job, Machines = job.Hosts, Address = meeting?.Host ?? AddressTowards(job.Hosts[^1]), Port = meeting?.Port ?? 0 };
        return new Placed(placement, nodes, Agreed(request.ProcessesPerNode, "--procs-per-node", perNode ?? request.ProcessesPerNode ?? 1, "SLURM_TASKS_PER_NODE"));
    }

    private Placed AsTask(SlurmJob job, SlurmStep step)
    {
        if (step.Tasks != step.Hosts.Count)
        {
            throw Usage(
                $"srun started {step.Tasks} launchers (SLURM_STEP_NUM_TASKS) on {step.Hosts.Count} node(s) (SLURM_STEP_NODELIST); a launcher starts all ranks of its node",
                "srun --ntasks-per-node=1 for it, or launch --srun without srun before it for a task a rank");
        }

        var nodes = Agreed(request.Nodes, "--nodes", step.Hosts.Count, "SLURM_STEP_NODELIST");
        var node = Agreed(NodeRank(), request.NodeRank is null ? NodeRankVariable : "--node-rank", step.Node, "SLURM_NODEID");
        var perNode = request.ProcessesPerNode ?? 1;
        if (nodes == 1)
        {
            return new Placed(new ThisMachine { Job = job, Machines = step.Hosts }, nodes, perNode);
        }

        var (host, port) = Rendezvous() ?? (step.Hosts[0], 0);
        port = port == 0 ? RankEnvironment.SlurmPort(job.Number) : port;
        return new Placed(new LauncherPerNode(node, Token()) { Job = job, Machines = step.Hosts, Address = host, Port = port }, nodes, perNode);
    }

    private Placed ByHand()
    {
        var node = NodeRank()!.Value;
        var nodes = request.Nodes ?? throw Usage("--node-rank needs --nodes", "--nodes N, the number of nodes in all");
        if (node >= nodes)
        {
            throw Usage($"--node-rank says {node}, but of {nodes} node(s) (--nodes) the last is {nodes - 1}", "nodes are counted from 0");
        }

        var perNode = request.ProcessesPerNode ?? 1;
        if (nodes == 1)
        {
            return new Placed(new ThisMachine(), nodes, perNode);
        }

        return Rendezvous() is ({ } host, > 0 and var port)
            ? new Placed(new LauncherPerNode(node, Token()) { Address = host, Port = port }, nodes, perNode)
            : throw Usage("--node-rank needs --rdzv HOST:PORT: where the launcher of node 0 listens", "--rdzv with a name or address of node 0 and two free ports, PORT and the next");
    }

    private int? NodeRank()
    {
        if (request.NodeRank is { } given)
        {
            return given;
        }

        return variable(NodeRankVariable) is not { Length: > 0 } text ? null
            : int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var node) ? node
            : throw Usage($"{NodeRankVariable} is '{text}'", "the number of the node, from 0");
    }

    // HOST:PORT or HOST alone.
    private (string Host, int Port)? Rendezvous()
    {
        var source = request.Rendezvous is null ? RendezvousVariable : "--rdzv";
        if ((request.Rendezvous ?? variable(RendezvousVariable)) is not { Length: > 0 } text)
        {
            return null;
        }

        return text.Split(':') switch
        {
            [{ Length: > 0 } host] => (host, 0),
            [{ Length: > 0 } host, var number] when ushort.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port < ushort.MaxValue => (host, port),
            _ => throw Usage($"{source} is '{text}'", "HOST:PORT, such as node0:29500"),
        };
    }

    // The control port listens on a network here: whoever reaches it must not be able to stop or to join the run.
    private string Token() => variable(TokenVariable) is { Length: >= ShortestToken } token
        ? token
        : throw Usage(
            $"launchers on several machines need a common secret of at least {ShortestToken} characters in the variable {TokenVariable}",
            $"export {TokenVariable}=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n')   before srun, which hands it on; by hand, the same value on every node");

    private static int Agreed(int? flag, string name, int other, string source) => flag is null || flag == other
        ? other
        : throw Usage($"{name} says {flag}, but {source} says {other}", $"leave {name} out, or mend the other");

    // Connecting a datagram socket sends nothing; it only makes the system choose the route.
    private static string AddressTowards(string host)
    {
        try
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            socket.Connect(host, 9);
            return ((IPEndPoint)socket.LocalEndPoint!).Address.ToString();
        }
        catch (SocketException e)
        {
            throw new LaunchException(
                ExitCodes.Preflight, $"host {host} cannot be reached: {e.Message}", "its name or address as this machine resolves it; or --rdzv with the address of this machine that it can reach");
        }
    }

    private static LaunchException Usage(string what, string remedy) => new(ExitCodes.Usage, what, remedy);
}
