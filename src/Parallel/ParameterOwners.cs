using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Who owns each parameter of those ranks that hold it: the owner steps it, counts it in the norm, and writes it to a checkpoint.</summary>
/// <remarks>
/// What is owned is a whole matrix, so that norms, trust ratios and orthogonalisation need no communication: a dense stored parameter
/// belongs to one of all ranks, an expert of a stack to one of its replicas, and the experts of a stack in contiguous ranges. Every rank
/// computes the same from the list, the mesh and the cost alone.
/// </remarks>
public sealed class ParameterOwners
{
    private readonly ParameterPlacement _placement;
    private readonly Dictionary<Parameter, int[]> _owners = [];
    private readonly double[] _loads;

    /// <param name="parameters">In the same order on all ranks; experts of the same number and shapes.</param>
    /// <param name="mesh">The ranks.</param>
    /// <param name="cost">What it costs to step a stored parameter, above 0; of a stack, of all its experts. The same on all ranks, whichever experts they hold. Left out, its elements.</param>
    public ParameterOwners(IReadOnlyList<Parameter> parameters, DeviceMesh mesh, Func<Parameter, double>? cost = null)
    {
        _placement = new ParameterPlacement(mesh);
        _loads = new double[mesh.World.Size];
        cost ??= parameter => parameter.Value.Count;

        // The costliest first, each to the ranks with the least work: no rank has more than the mean and one parameter. Experts come
        // before, since fewer ranks can take them.
        var byCost = parameters.Select(parameter => (Parameter: parameter, Cost: cost(parameter))).OrderByDescending(place => place.Cost).ToList();
        foreach (var (stack, stackCost) in byCost.Where(place => place.Parameter.ExpertIds is not null))
        {
            _owners.Add(stack, DivideExperts(stack, stackCost, mesh));
        }

        foreach (var (dense, denseCost) in byCost.Where(place => place.Parameter.ExpertIds is null))
        {
            var owner = Array.IndexOf(_loads, _loads.Min());
            _loads[owner] += denseCost;
            _owners.Add(dense, [owner]);
        }
    }

    /// <summary>Cost of what each rank owns, by world rank.</summary>
    public IReadOnlyList<double> Loads => _loads;

    /// <summary>
    /// Ranks of <see cref="ParameterPlacement.ReduceGroup"/> that own a parameter: one for a dense parameter, and for a stack one for each expert,
    /// ascending.
    /// </summary>
    /// <param name="parameter">Of the list.</param>
    public IReadOnlyList<int> Of(Parameter parameter) => _owners[parameter];

    /// <summary>Whether this rank owns each logical parameter of a stored one.</summary>
    /// <param name="parameter">Of the list.</param>
    /// <returns>In the order of <see cref="Parameter.Keys"/>.</returns>
    public IEnumerable<bool> Owns(Parameter parameter)
    {
        var rank = _placement.ReduceGroup(parameter).Rank;
        return _owners[parameter].SelectMany(owner => Enumerable.Repeat(owner == rank, parameter.Parts.Count));
    }

    // What does not divide evenly goes to the replicas with the least work. The ranks of a replica get equal work by this, so its first stands for all.
    private int[] DivideExperts(Parameter stack, double cost, DeviceMesh mesh)
    {
        var (replicas, expertRanks) = (mesh.Replica.Size, mesh.Expert.Size);
        var experts = stack.ExpertIds!.Length;
        var shares = new int[replicas];
        Array.Fill(shares, experts / replicas);
        foreach (var replica in Enumerable.Range(0, replicas).OrderBy(replica => _loads[replica * expertRanks]).Take(experts % replicas))
        {
            shares[replica]++;
        }

        for (var rank = 0; rank < _loads.Length; rank++)
        {
            _loads[rank] += cost * shares[rank / expertRanks] / experts;
        }

        return [.. shares.SelectMany((share, replica) => Enumerable.Repeat(replica, share))];
    }
}
