using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Distributed;

/// <summary>
/// Dispatch where sending between nodes is dear: a token goes once to each node that has experts of it, to the rank there with this rank's number within its node, which
/// passes it on to the ranks of its experts; one sum comes back from each node.
/// </summary>
/// <remarks>
/// Two <see cref="AllToAllDispatcher"/>s, one after the other: the first takes a node for a rank with all of the node's experts. A token's results are added up over the
/// ranks of a node in their order, and then over the nodes in theirs. The sizes of both exchanges are known after two small ones, which the host waits for once.
/// </remarks>
/// <param name="nodes">The ranks that hold all experts between them, of one replica, node after node; stay the caller's.</param>
/// <param name="experts">E, a multiple of the ranks.</param>
public sealed class TwoLevelDispatcher(NodeGroups nodes, int experts)
    : ExchangingDispatcher(experts, nodes.Inside.Size * nodes.Between.Size, (nodes.Between.Rank * nodes.Inside.Size) + nodes.Inside.Rank)
{
    private readonly ProcessGroup _inside = nodes.Inside;
    private readonly ProcessGroup _between = nodes.Between;

    private int NodeExperts => _inside.Size * LocalExperts;

    /// <inheritdoc/>
    public override TokenRoute[] Plan(Tensor expertIds, int chunks)
    {
        using var scope = new TensorScope();
        var ids = expertIds.Contiguous();
        var (nodes, ranks) = (_between.Size, _inside.Size);
        var parts = Cut(ids.Size(0), chunks);
        var (toNodes, toRanks) = (ids.NewEmpty([chunks, nodes, 2]), ids.NewEmpty([chunks, nodes * ranks, 2]));
        var plans = new (Tensor Ids, Tensor Destinations)[chunks];
        for (var chunk = 0; chunk < chunks; chunk++)
        {
            var own = ids.Narrow(0, parts[chunk].Start, parts[chunk].Length);
            plans[chunk] = (own, PackedRows.Plan(own, Experts, nodes, toNodes.Select(0, chunk)).Destinations);
            PackedRows.Plan(own, Experts, nodes * ranks, toRanks.Select(0, chunk));
        }

        var layer = _between.Trace.Layer;
        var (sizes, work) = ExchangeSizes(toNodes, toRanks.View(chunks, nodes, 2 * ranks), layer);
        var orders = Array.ConvertAll(plans, plan => PairOrder.Of(plan.Destinations, nodes));
        work.WaitOnHost();
        var tables = Shaping.Concatenate(Array.ConvertAll(sizes, table => table.Reshape(-1))).ToArray<long>();
        var half = 4 * nodes * chunks; // two tables of the nodes, then two of the ranks
        var (outer, inner) = (new SizeTable(tables.AsMemory(0, half), nodes, chunks), new SizeTable(tables.AsMemory(half), ranks, chunks));

        return [.. Enumerable.Range(0, chunks).Select(chunk =>
        {
            var between = new AllToAllExchange(_between, layer, outer.Rows(0, chunk), outer.Rows(1, chunk));
            var inside = new AllToAllExchange(_inside, layer, inner.Rows(0, chunk), inner.Rows(1, chunk));
            var (own, destinations) = plans[chunk];
            var order = orders[chunk].First(between.LeavingRows).Saved(scope.Keep);
            return new TwoLevelRoute(new TokenHop(between, scope.Keep(own), scope.Keep(destinations), order, NodeExperts, Experts), inside, ranks, LocalExperts)
            {
                FirstToken = parts[chunk].Start,
                Tokens = parts[chunk].Length,
                LeavingChoices = outer.Choices(0, chunk),
                PassingRows = between.ArrivingRows,
                ArrivingRows = inside.ArrivingRows,
                ArrivingChoices = inner.Choices(1, chunk),
            };
        })];
    }

    // What a rank passes on to each of its neighbours is the sum of what its peers on all nodes say that they send to them: it is known before a row has come.
    private (Tensor[] Tables, Work Last) ExchangeSizes(Tensor toNodes, Tensor toRanks, int? layer)
    {
        var (chunks, nodes, ranks) = (toNodes.Size(0), _between.Size, _inside.Size);
        var leaving = toNodes.NewEmpty([nodes, chunks, 2 + (2 * ranks)]);
        leaving.Narrow(2, 0, 2).CopyFrom_(toNodes.Transpose(0, 1));
        leaving.Narrow(2, 2, 2 * ranks).CopyFrom_(toRanks.Transpose(0, 1));
        var arriving = leaving.NewEmpty(leaving.Shape);
        Exchange(_between, arriving, leaving, layer).Wait();
        var passing = arriving.Narrow(2, 2, 2 * ranks).Sum(0).View(chunks, ranks, 2).Transpose(0, 1).Contiguous();
        var coming = passing.NewEmpty(passing.Shape);
        return ([leaving.Narrow(2, 0, 2), arriving.Narrow(2, 0, 2), passing, coming], Exchange(_inside, coming, passing, layer));
    }

    private static Work Exchange(ProcessGroup group, Tensor output, Tensor input, int? layer)
    {
        long[] one = [.. Enumerable.Repeat(1L, group.Size)];
        return group.Trace.Labelled("moe.counts", layer, () => group.AllToAllAsync(output, input, one, one));
    }
}
