using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>Which nodes of a run are here. On one machine, and where one launcher starts all ranks, all are; otherwise each comes with its launcher, and may go.</summary>
/// <param name="plan">What runs.</param>
/// <param name="server">Where the launchers connect.</param>
/// <param name="ranks">All ranks.</param>
internal sealed class NodeRoster(RankPlan plan, ControlServer server, IReadOnlyList<RankState> ranks)
{
    private readonly bool[] _isHere = [.. Enumerable.Range(0, plan.Nodes).Select(node => node == 0 || plan.Placement is not LauncherPerNode)];

    /// <summary>Whether the node's launcher is connected.</summary>
    public bool IsHere(int node) => _isHere[node];

    /// <summary>Whether a launcher elsewhere still has to tell how a process ended.</summary>
    public bool IsWaitedFor => plan.Placement is LauncherPerNode && ranks.Any(rank => rank.EndedAt is null && plan.NodeOf(rank.Rank) > 0);

    /// <summary>Has the launcher of a node start its ranks.</summary>
    /// <param name="node">Number of the node.</param>
    /// <param name="storePort">Port of the TCP store; null where none is needed.</param>
    public void Begin(int node, int? storePort) => server.SendToNode(node, new NodeStartMessage(
        plan.Mode, plan.Backend, plan.Resume, Path.GetFullPath(plan.Folder.Path), storePort, plan.ThreadsAsked, plan.ModeArguments));

    /// <summary>Notes that a node's launcher came.</summary>
    public void Enter(int node) => _isHere[node] = true;

    /// <summary>Notes that a node's launcher has gone.</summary>
    /// <returns>Whether it left ranks behind of which nobody will tell any more.</returns>
    public bool Leave(int node)
    {
        _isHere[node] = false;
        return plan.RanksOf(node).Any(rank => ranks[rank].EndedAt is null);
    }

    /// <summary>Takes the processes of a node for ended, as nobody will tell any more how they did.</summary>
    public void GiveUp(int node, TimeSpan now)
    {
        foreach (var rank in plan.RanksOf(node))
        {
            ranks[rank].EndedAt ??= now;
        }
    }

    /// <summary>The same for all nodes that are not here.</summary>
    public void GiveUpAbsent(TimeSpan now)
    {
        foreach (var node in Absent)
        {
            GiveUp(node, now);
        }
    }

    /// <summary>Breaks with ranks on machines that no longer answer.</summary>
    public void DropAbsent()
    {
        foreach (var rank in Absent.SelectMany(plan.RanksOf))
        {
            server.Drop(rank);
        }
    }

    private IEnumerable<int> Absent => Enumerable.Range(0, plan.Nodes).Where(node => !_isHere[node]);
}
