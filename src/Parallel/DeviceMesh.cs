namespace Moe.Distributed;

/// <summary>One way in which a job is divided.</summary>
/// <param name="Name">As in <c>expert</c>.</param>
/// <param name="Size">Ranks along the axis.</param>
public readonly record struct MeshAxis(string Name, int Size);

/// <summary>
/// The ranks of a job as a grid over named axes, the last axis fastest, with a group along each axis. The axes
/// <see cref="ReplicaAxis"/> and <see cref="ExpertAxis"/> are folded into one another: every rank has tokens of its own, the ranks of
/// one replica hold all experts between them, and ranks with the same expert coordinate hold the same experts.
/// </summary>
/// <remarks>
/// Collectives that may be under way at the same time are on groups of their own: <see cref="Expert"/> for the tokens,
/// <see cref="Replica"/> and <see cref="Gradients"/> for the reduction of gradients, <see cref="Metrics"/> for counts.
/// </remarks>
public sealed class DeviceMesh : IDisposable
{
    /// <summary>Name of the axis along which the experts are copies.</summary>
    public const string ReplicaAxis = "replica";

    /// <summary>Name of the axis along which the experts are divided.</summary>
    public const string ExpertAxis = "expert";

    private readonly MeshAxis[] _axes;
    private readonly int[] _coordinates;
    private readonly ProcessGroup[] _groups;
    private NodeGroups? _expertNodes;

    /// <summary>The mesh of replicas and experts: world rank = replica * <paramref name="expertParallel"/> + expert rank.</summary>
    /// <param name="world">All ranks.</param>
    /// <param name="expertParallel">Ranks that share the experts of a replica; divides the number of ranks.</param>
    /// <exception cref="ArgumentException"><paramref name="expertParallel"/> does not divide the number of ranks.</exception>
    public DeviceMesh(ProcessGroup world, int expertParallel)
        : this(world, new MeshAxis(ReplicaAxis, expertParallel > 0 ? world.Size / expertParallel : 0), new MeshAxis(ExpertAxis, expertParallel))
    {
    }

    /// <summary>A mesh over any axes; every rank of <paramref name="world"/> makes the same.</summary>
    /// <param name="world">All ranks; stays the caller's.</param>
    /// <param name="axes">From the slowest to the fastest; the product of their sizes is the number of ranks.</param>
    /// <exception cref="ArgumentException">The sizes don't multiply to the number of ranks.</exception>
    /// <exception cref="CommunicationException">A group could not be made.</exception>
    public DeviceMesh(ProcessGroup world, params MeshAxis[] axes)
    {
        if (axes.Any(axis => axis.Size < 1) || axes.Aggregate(1L, (product, axis) => product * axis.Size) != world.Size)
        {
            throw new ArgumentException(
                $"{string.Join(" x ", axes.Select(axis => $"{axis.Size} ({axis.Name})"))} ranks don't make the {world.Size} ranks of the job", nameof(axes));
        }

        World = world;
        _axes = axes;
        _coordinates = CoordinatesOf(world.Rank);
        _groups = new ProcessGroup[axes.Length];
        for (var axis = 0; axis < axes.Length; axis++)
        {
            _groups[axis] = world.CreateGroup(RanksAlong(axis), axes[axis].Name);
        }

        int[] all = [.. Enumerable.Range(0, world.Size)];
        Gradients = world.CreateGroup(all, "gradients");
        Metrics = world.CreateGroup(all, "metrics");
    }

    /// <summary>All ranks, for what happens outside the step: start, checkpoints, end.</summary>
    public ProcessGroup World { get; }

    /// <summary>All ranks, for gradients of parameters that every rank holds.</summary>
    public ProcessGroup Gradients { get; }

    /// <summary>All ranks, for expert counts and metrics.</summary>
    public ProcessGroup Metrics { get; }

    /// <summary>Ranks of each node, whose numbers follow one another; 1 where nothing is known of nodes, or they differ.</summary>
    public int RanksPerNode { get; init; } = 1;

    /// <summary>Whether the experts of any replica stand on several machines, whatever the launcher calls a node; the same on every rank.</summary>
    public bool SpansMachines { get; init; }

    /// <summary>The ranks that hold the experts of this replica between them, for tokens.</summary>
    public ProcessGroup Expert => Group(ExpertAxis);

    /// <summary>The ranks that hold the same experts as this one, for these experts' gradients.</summary>
    public ProcessGroup Replica => Group(ReplicaAxis);

    /// <summary>Whether the experts of a replica fill several nodes of several ranks each.</summary>
    public bool HasExpertNodes => RanksPerNode > 1 && Expert.Size > RanksPerNode && Expert.Size % RanksPerNode == 0;

    /// <summary>Rank within <see cref="Expert"/>.</summary>
    public int ExpertRank => Expert.Rank;

    /// <summary>Rank within <see cref="Replica"/>.</summary>
    public int ReplicaRank => Replica.Rank;

    /// <summary>The ranks whose coordinates differ from this one's along one axis only, in the order of that coordinate.</summary>
    /// <exception cref="ArgumentException">There is no such axis.</exception>
    public ProcessGroup Group(string axis)
    {
        var index = Array.FindIndex(_axes, candidate => candidate.Name == axis);
        return index >= 0
            ? _groups[index]
            : throw new ArgumentException($"the mesh has no axis '{axis}', only {string.Join(", ", _axes.Select(one => one.Name))}", nameof(axis));
    }

    /// <summary>The ranks of <see cref="Expert"/> by node. Made at the first call, which all of them make at the same time.</summary>
    /// <exception cref="InvalidOperationException">They don't fill whole nodes of several ranks.</exception>
    /// <exception cref="CommunicationException">A group could not be made.</exception>
    public NodeGroups ExpertNodes()
    {
        if (!HasExpertNodes)
        {
            throw new InvalidOperationException($"{Expert.Size} ranks of experts are not several nodes of {RanksPerNode} ranks each");
        }

        var (node, local) = (ExpertRank / RanksPerNode, ExpertRank % RanksPerNode);
        return _expertNodes ??= new NodeGroups(
            Expert.CreateGroup([.. Enumerable.Range(node * RanksPerNode, RanksPerNode)], "inside"),
            Expert.CreateGroup([.. Enumerable.Range(0, Expert.Size / RanksPerNode).Select(other => (other * RanksPerNode) + local)], "between"));
    }

    /// <summary>The axes with their sizes, as in <c>replica 2 x expert 2</c>.</summary>
    public override string ToString() => string.Join(" x ", _axes.Select(axis => $"{axis.Name} {axis.Size}"));

    /// <summary>Disposes the groups of the mesh; <see cref="World"/> stays.</summary>
    public void Dispose()
    {
        _expertNodes?.Inside.Dispose();
        _expertNodes?.Between.Dispose();
        foreach (var group in _groups)
        {
            group.Dispose();
        }

        Gradients.Dispose();
        Metrics.Dispose();
    }

    private int[] CoordinatesOf(int rank)
    {
        var coordinates = new int[_axes.Length];
        for (var axis = _axes.Length - 1; axis >= 0; axis--)
        {
            coordinates[axis] = rank % _axes[axis].Size;
            rank /= _axes[axis].Size;
        }

        return coordinates;
    }

    private int[] RanksAlong(int axis)
    {
        var stride = _axes[(axis + 1)..].Aggregate(1, (product, one) => product * one.Size);
        var first = World.Rank - (_coordinates[axis] * stride);
        return [.. Enumerable.Range(0, _axes[axis].Size).Select(coordinate => first + (coordinate * stride))];
    }
}
