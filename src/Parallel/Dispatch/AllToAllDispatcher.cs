using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Distributed;

/// <summary>
/// Dispatch over a group of ranks that divide the experts: each token goes straight to the ranks of its experts, once to each however many of
/// them it chose there, and one sum comes back from each.
/// </summary>
/// <remarks>
/// A dispatch is one small all-to-all of sizes, hidden behind the order of the rows, and one of rows with their choices beside them; combine and both
/// backwards are one of rows each, with the sizes that the dispatch left. Shapes: N rows leave for the ranks, n arrive.
/// </remarks>
/// <param name="group">The ranks that hold all experts between them, of one replica; stays the caller's.</param>
/// <param name="experts">E, a multiple of the group's size.</param>
public sealed class AllToAllDispatcher(ProcessGroup group, int experts) : ExchangingDispatcher(experts, group.Size, group.Rank)
{
    /// <inheritdoc/>
    public override TokenRoute[] Plan(Tensor expertIds, int chunks)
    {
        using var scope = new TensorScope();
        var ids = expertIds.Contiguous();
        var ranks = group.Size;
        var sizes = ids.NewEmpty([2, ranks, chunks, 2]); // of what leaves and of what arrives: rows and choices
        var leaving = sizes.Select(0, 0);
        var planned = chunks == 1 ? leaving.View(1, ranks, 2) : ids.NewEmpty([chunks, ranks, 2]);
        var parts = Cut(ids.Size(0), chunks);
        var plans = new (Tensor Ids, Tensor Destinations)[chunks];
        for (var chunk = 0; chunk < chunks; chunk++)
        {
            var own = ids.Narrow(0, parts[chunk].Start, parts[chunk].Length);
            plans[chunk] = (own, PackedRows.Plan(own, Experts, ranks, planned.Select(0, chunk)).Destinations);
        }

        if (chunks > 1)
        {
            leaving.CopyFrom_(planned.Transpose(0, 1));
        }

        long[] one = [.. Enumerable.Repeat(1L, ranks)];
        var layer = group.Trace.Layer;
        var work = group.Trace.Labelled("moe.counts", layer, () => group.AllToAllAsync(sizes.Select(0, 1), leaving, one, one));
        var orders = Array.ConvertAll(plans, plan => PairOrder.Of(plan.Destinations, ranks));
        work.WaitOnHost();
        var counts = new SizeTable(sizes.ToArray<long>(), ranks, chunks);

        return [.. Enumerable.Range(0, chunks).Select(chunk =>
        {
            var exchange = new AllToAllExchange(group, layer, counts.Rows(0, chunk), counts.Rows(1, chunk));
            var (own, destinations) = plans[chunk];
            var order = orders[chunk].First(exchange.LeavingRows).Saved(scope.Keep);
            return new DirectRoute(new TokenHop(exchange, scope.Keep(own), scope.Keep(destinations), order, LocalExperts, Experts))
            {
                FirstToken = parts[chunk].Start,
                Tokens = parts[chunk].Length,
                LeavingChoices = counts.Choices(0, chunk),
                ArrivingRows = exchange.ArrivingRows,
                ArrivingChoices = counts.Choices(1, chunk),
            };
        })];
    }
}
