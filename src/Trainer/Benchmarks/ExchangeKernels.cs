using Moe.Distributed;
using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Training.Benchmarks;

/// <summary>The way of tokens between ranks that share the experts: each goes once to a rank that has experts of its choice, and one sum comes back.</summary>
/// <remarks>
/// Shapes: T tokens of width D, k choices, P ranks, m = min(k, P), N rows leave, n arrive, R rows of this rank's experts. Exchanges are held against
/// one of equal parts whose sum over all ranks is the same.
/// </remarks>
internal sealed class ExchangeKernels
{
    private const double Index = sizeof(int);
    private const double Id = sizeof(long);

    private readonly RoutedTokens _routed;
    private readonly KernelShapes _shapes;
    private readonly RandomInputs _random;
    private readonly RowCopies _copies;
    private readonly ProcessGroup _group;
    private readonly DispatchPlan _plan;
    private readonly PairOrder _order;
    private readonly PairOrder _local;
    private readonly Tensor _arrived;
    private readonly Tensor _choices;
    private readonly long[] _leaving; // rows to each rank
    private readonly long[] _arriving; // rows from each rank

    /// <summary>Sends the tokens once, to know the shapes. All ranks of the mesh call this at the same time.</summary>
    /// <param name="routed">This rank's tokens.</param>
    /// <param name="shapes">Of the rank.</param>
    /// <param name="random">Makes rows and weights.</param>
    public ExchangeKernels(RoutedTokens routed, KernelShapes shapes, RandomInputs random)
    {
        (_routed, _shapes, _random, _copies, _group) = (routed, shapes, random, new RowCopies(shapes, random), shapes.Mesh.Expert);
        var sizes = routed.Ids.NewEmpty([2, Ranks, 2]);
        _plan = PackedRows.Plan(routed.Ids, shapes.Model.Moe.Experts, Ranks, sizes.Select(0, 0));
        _group.AllToAll(sizes.Select(0, 1), sizes.Select(0, 0), Ones, Ones);
        var known = sizes.ToArray<long>();
        _leaving = [.. Enumerable.Range(0, Ranks).Select(rank => known[2 * rank])];
        _arriving = [.. Enumerable.Range(Ranks, Ranks).Select(rank => known[2 * rank])];
        var rows = Enumerable.Range(Ranks, Ranks).Sum(rank => known[(2 * rank) + 1]);
        _order = PairOrder.Of(_plan.Destinations, Ranks).First(_leaving.Sum());
        var packed = Pack(routed.Tokens, routed.Weights, routed.Ids, _plan.Destinations, _order);
        _arrived = packed.NewEmpty([_arriving.Sum(), packed.Size(1)]);
        _group.AllToAll(_arrived, packed, _arriving, _leaving);
        _choices = PackedRows.Choices(_arrived, shapes.Width, Slots).Ids;
        _local = PairOrder.Of(_choices, LocalExperts).First(rows);
    }

    private int Ranks => _group.Size;

    private int LocalExperts => _shapes.Model.Moe.Experts / Ranks;

    private long Slots => _shapes.Model.Moe.TopK;

    private long[] Ones => [.. Enumerable.Repeat(1L, Ranks)];

    // n and N.
    private long Arriving => _arrived.Size(0);

    private long Leaving => _order.Rows;

    // Elements of a packed row, out and on the way back of gradients.
    private long Stride => _arrived.Size(1);

    private long StrideBack => PackedRows.Stride(_shapes.Type, _shapes.Width, Slots, withIds: false);

    private double Weight => _shapes.WideSize;

    /// <summary>In the order of a step.</summary>
    public IEnumerable<KernelBenchmark> All() => [.. Out(), .. Back(), .. GradientsOut(), .. GradientsBack()];

    private IEnumerable<KernelBenchmark> Out()
    {
        yield return Plan();
        yield return Sizes();
        yield return RowCopies.Order("order of destinations", _plan.Destinations, Ranks);
        yield return Packing();
        yield return Rows("exchange of rows", KernelPass.Forward, Stride, isSend: true);
        yield return Unpacking();
        yield return RowCopies.Order("order of choices", _choices, LocalExperts);
        yield return _copies.Permute("rows to experts", KernelPass.Forward, _local, _local.Rows, Arriving, Stride);
        yield return _copies.PermuteNumbers("weights to experts", _random.Normal([Arriving, Slots], _shapes.Wide), _local, _local.Rows);
    }

    private IEnumerable<KernelBenchmark> Back()
    {
        yield return _copies.Sum("sum of experts' rows", KernelPass.Forward, _local, _local.Rows);
        yield return Rows("exchange of sums", KernelPass.Forward, _shapes.Width, isSend: false);
        yield return _copies.Sum("sum over ranks", KernelPass.Forward, _order, Leaving, adds: _shapes.Model.Moe.SharedExperts > 0);
    }

    private IEnumerable<KernelBenchmark> GradientsOut()
    {
        yield return _copies.Permute("sum over ranks", KernelPass.Backward, _order, Leaving, _shapes.Tokens);
        yield return Rows("exchange of sums", KernelPass.Backward, _shapes.Width, isSend: true);
        yield return _copies.Permute("sum of experts' rows", KernelPass.Backward, _local, _local.Rows, Arriving);
    }

    private IEnumerable<KernelBenchmark> GradientsBack()
    {
        yield return PackingGradients();
        yield return Rows("exchange of rows", KernelPass.Backward, StrideBack, isSend: false);
        yield return _copies.Sum("packed rows", KernelPass.Backward, _order, Leaving, StrideBack);
        yield return WeightGradients();
    }

    private KernelBenchmark Plan()
    {
        var bytes = (Id * (_routed.Ids.Count + _plan.Destinations.Count)) + (2 * Id * Ranks);
        return new KernelBenchmark("destinations", Invariant($"[{_shapes.Tokens}, {Slots}] of {Ranks} ranks"), KernelPass.Forward, bytes, 0, () =>
        {
            var ids = _routed.Ids.Clone();
            return new KernelCall(() => PackedRows.Plan(ids, _shapes.Model.Moe.Experts, Ranks, ids.NewEmpty([Ranks, 2])));
        });
    }

    // The host waits for what arrives, as it does once a layer.
    private KernelBenchmark Sizes()
    {
        KernelCall Make()
        {
            var sizes = _routed.Ids.NewZeros([2, Ranks, 2]);
            return new KernelCall(() =>
            {
                _group.AllToAllAsync(sizes.Select(0, 1), sizes.Select(0, 0), Ones, Ones).WaitOnHost();
                sizes.ToArray<long>();
            });
        }

        return new KernelBenchmark("exchange of sizes", Invariant($"[{Ranks}, 2]"), KernelPass.Forward, 2 * Id * (Ranks - 1), 0, Make)
        {
            Plain = () => Exchange(_routed.Ids.NewZeros([Ranks, 2]), Ones, Ones),
        };
    }

    private KernelBenchmark Packing()
    {
        var bytes = (_shapes.Tokens * _shapes.Width * _shapes.Size) + (_routed.Ids.Count * (Id + Weight)) + (_plan.Destinations.Count * Id) + (Leaving * Index)
            + (Leaving * Stride * _shapes.Size);
        return new KernelBenchmark("packed rows", Invariant($"[{_shapes.Tokens}, {_shapes.Width}] -> [{Leaving}, {Stride}]"), KernelPass.Forward, bytes, 0, () =>
        {
            var (tokens, weights, ids) = (_routed.Tokens.Clone(), _routed.Weights.Clone(), _routed.Ids.Clone());
            var (destinations, order) = (_plan.Destinations.Clone(), RowCopies.Copy(_order));
            return new KernelCall(() => Pack(tokens, weights, ids, destinations, order));
        });
    }

    private Tensor Pack(Tensor tokens, Tensor weights, Tensor ids, Tensor destinations, PairOrder order) =>
        PackedRows.Pack(tokens, weights, ids, destinations, order, LocalExperts);

    private KernelBenchmark Unpacking()
    {
        var choices = Arriving * Slots;
        var bytes = choices * (Index + Id + (2 * Weight));
        return new KernelBenchmark("choices of arrived rows", Invariant($"[{Arriving}, {Slots}]"), KernelPass.Forward, bytes, 0, () =>
        {
            var arrived = _arrived.Clone();
            return new KernelCall(() => PackedRows.Choices(arrived, _shapes.Width, Slots));
        })
        { Held = Arriving * Stride * _shapes.Size };
    }

    private KernelBenchmark PackingGradients()
    {
        var rows = _local.Rows;
        var bytes = (rows * ((_shapes.Width * _shapes.Size) + Weight)) + (_local.Places.Count * Index) + (Arriving * StrideBack * _shapes.Size);
        return new KernelBenchmark("rows to experts", Invariant($"[{rows}, {_shapes.Width}] -> [{Arriving}, {StrideBack}]"), KernelPass.Backward, bytes, 0, () =>
        {
            var (gradients, weights) = (_random.Normal([rows, _shapes.Width], _shapes.Type), _random.Normal([rows], _shapes.Wide));
            var order = RowCopies.Copy(_local);
            return new KernelCall(() => PackedRows.PackGradients(gradients, weights, order));
        });
    }

    private KernelBenchmark WeightGradients()
    {
        var bytes = (_routed.Ids.Count * (Id + (2 * Weight))) + (_plan.Destinations.Count * (Id + Index));
        return new KernelBenchmark("weights", Invariant($"[{Leaving}, {StrideBack}] -> [{_shapes.Tokens}, {Slots}]"), KernelPass.Backward, bytes, 0, () =>
        {
            var (packed, ids) = (_random.Normal([Leaving, StrideBack], _shapes.Type), _routed.Ids.Clone());
            var (destinations, order) = (_plan.Destinations.Clone(), RowCopies.Copy(_order));
            return new KernelCall(() => PackedRows.WeightGradients(
                packed, _shapes.Width, ids, destinations, order, LocalExperts, _shapes.Model.Moe.Experts));
        })
        { Held = Leaving * StrideBack * _shapes.Size };
    }

    private KernelBenchmark Rows(string name, KernelPass pass, long width, bool isSend)
    {
        var (inputRows, outputRows) = isSend ? (_leaving, _arriving) : (_arriving, _leaving);
        var bytes = (inputRows.Sum() - inputRows[_group.Rank]) * width * _shapes.Size;
        var even = Math.Max(1, (long)Math.Round(_group.AllReduce((double)inputRows.Sum()) / Ranks / Ranks));
        long[] evenRows = [.. Enumerable.Repeat(even, Ranks)];
        var shape = Invariant($"[{inputRows.Sum()}, {width}] -> [{outputRows.Sum()}, {width}]");
        return new KernelBenchmark(name, shape, pass, bytes, 0, () => Exchange(_random.Normal([inputRows.Sum(), width], _shapes.Type), outputRows, inputRows))
        {
            Held = (inputRows.Sum() + outputRows.Sum()) * width * _shapes.Size,
            Plain = () => Exchange(_random.Normal([even * Ranks, width], _shapes.Type), evenRows, evenRows),
        };
    }

    private KernelCall Exchange(Tensor input, long[] outputRows, long[] inputRows) => new(() =>
    {
        var output = input.NewEmpty([outputRows.Sum(), input.Size(1)]);
        _group.AllToAllAsync(output, input, outputRows, inputRows).Wait();
    });

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
