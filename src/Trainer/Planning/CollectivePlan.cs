using Moe.Distributed;
using Moe.Torch;
using Moe.Torch.Kernels;
using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>Collectives of one purpose that a rank takes part in during a step.</summary>
/// <param name="Purpose">As in <c>tokens</c>.</param>
/// <param name="Operation">What it is to <see cref="ProcessGroup"/>.</param>
/// <param name="Ranks">Of the group.</param>
/// <param name="Calls">Operations; a fraction where not every step has one.</param>
/// <param name="Bytes">As <see cref="CollectiveTotals"/> counts them: for an all-to-all those that leave the rank, else the size of its input.</param>
/// <param name="Inside">Bytes that the rank sends to ranks of its node.</param>
/// <param name="Between">Bytes that it sends to other nodes.</param>
/// <param name="Seconds">On the links alone.</param>
public readonly record struct CollectiveItem(
    string Purpose, Collective Operation, int Ranks, double Calls, double Bytes, double Inside, double Between, double Seconds);

/// <summary>Counts the collectives of a step as the trainer starts them: dispatch and combine, counts, gradients, norm, totals and weights.</summary>
internal sealed class CollectivePlan
{
    // Open MPI's backend sends small tensors whole to everyone, larger ones in parts: MpiProcessGroup.GatheredLimit.
    private const double GatheredLimit = 128 * 1024;

    private readonly PlannedModel _model;
    private readonly DeviceRecord _device;
    private readonly int _perNode;
    private readonly DType _type;
    private readonly List<CollectiveItem> _items = [];

    private CollectivePlan(PlannedModel model, DeviceRecord device, int perNode) =>
        (_model, _device, _perNode, _type) = (model, device, device.SharedCores is null ? perNode : model.Ranks, ModelAssembly.ComputeType(model.Config.Train.Precision));

    /// <param name="model">On its mesh.</param>
    /// <param name="device">Its links.</param>
    /// <param name="perNode">Ranks of a node.</param>
    /// <param name="load">Rows of the busiest rank's experts over the mean.</param>
    /// <param name="rank">Whose share of the weights is counted; null for the one that owns most.</param>
    public static IReadOnlyList<CollectiveItem> Of(PlannedModel model, DeviceRecord device, int perNode, double load = 1, int? rank = null)
    {
        var plan = new CollectivePlan(model, device, perNode);
        plan.Tokens(load);
        plan.Reductions(rank ?? model.FullestRank());
        plan.RowSums();
        return [.. plan._items.Where(item => item.Calls > 0)];
    }

    private void Tokens(double load)
    {
        var config = _model.Config;
        var (group, accumulation, layers) = (_model.Mesh.Expert, config.Train.Accumulation, _model.ExpertLayers);
        if (layers == 0)
        {
            return;
        }

        var trained = (long)layers * accumulation;

        // The count of a step's routing goes forward only, and not into the last layer's experts.
        var counted = _model.CountsFirst ? (long)accumulation * (layers - 1) : 0;
        // Backward dispatches once more where it computes whole layers again, by the sizes that it knows; back come rows only where a norm wants their sum.
        var choice = MemoryChoice.Of(config);
        var again = (long)accumulation * (choice.Recompute == Recompute.Block ? Math.Max(0, choice.Layers - config.Model.DenseLayers) : 0);
        var width = (double)config.Model.Width * _model.ActivationSize;
        if (config.Parallel.Dispatcher == DispatcherName.AllGather)
        {
            Gathered(group, trained, counted + again, width);
        }
        else if (group.Size > 1 || config.Parallel.Dispatcher == DispatcherName.AllToAll)
        {
            foreach (var hop in Hops())
            {
                Exchanged(hop, trained, counted, again, load, width);
            }
        }

        AllReduce("expert counts", _model.Mesh.Metrics, accumulation * (_model.CountsFirst ? 2 : 1), (double)layers * config.Model.Moe.Experts * sizeof(long));
    }

    // What a row goes through on its way: one exchange with the ranks of its experts, or one with their nodes and one within these.
    private IEnumerable<Hop> Hops()
    {
        if (!_model.GoesOverNodes)
        {
            return [new(_model.Mesh.Expert, _model.PackedRows, 2)];
        }

        var (inside, between) = _model.Mesh.ExpertNodes();
        return [new(between, _model.RowsFor(between.Size), 2 + (2 * inside.Size)), new(inside, _model.PackedRows, 2)];
    }

    // A dispatch takes the choices and weights along, the gradients' way back the weights'; of a combine it is the rows alone.
    private void Exchanged(Hop hop, long trained, long counted, long again, double load, double width)
    {
        var (config, group) = (_model.Config, hop.Group);
        var leaving = hop.Rows * load * (group.Size - 1) / group.Size;
        double Packed(bool withIds) => PackedRows.Stride(_type, config.Model.Width, config.Model.Moe.TopK, withIds) * _model.ActivationSize;
        var chunks = config.Parallel.DispatchChunks;
        void Rows(string purpose, long calls, double rowBytes) => Exchange(purpose, group, (double)calls * chunks, leaving * rowBytes / chunks);
        Exchange("token counts", group, trained + counted, (double)hop.Sizes * chunks * (group.Size - 1) * sizeof(long));
        Rows("tokens forward", trained + counted, Packed(withIds: true));
        Rows("tokens forward", trained + counted, width);
        Rows("tokens again", again, Packed(withIds: true));
        Rows("tokens again", config.Model.Norm == NormPlacement.Peri ? again : 0, width);
        Rows("tokens backward", trained, width);
        Rows("tokens backward", trained, Packed(withIds: false));
    }

    // The reference: everyone sees everything, in tensors as long as the longest rank's.
    private void Gathered(ProcessGroup group, long trained, long counted, double width)
    {
        var forwards = trained + counted;
        var wide = (double)_model.Config.Model.Width * _model.WideSize;
        var weights = (double)_model.Tokens * _model.Config.Model.Moe.TopK * _model.WideSize;
        Gather("token counts", group, forwards, sizeof(long));
        Gather("token counts", group, forwards, (double)_model.Tokens * _model.Config.Model.Moe.TopK * sizeof(long));
        Gather("tokens forward", group, forwards, _model.Tokens * width);
        Gather("tokens forward", group, forwards, _model.Rows * width);
        Gather("tokens forward", group, forwards, weights);
        ReduceScatter("tokens backward", group, trained, group.Size * _model.Tokens * wide);
        ReduceScatter("tokens backward", group, trained, group.Size * _model.Rows * wide);
        ReduceScatter("tokens backward", group, trained, group.Size * weights);
    }

    private void Reductions(int rank)
    {
        foreach (var alike in _model.Buckets.Where(bucket => bucket.Group.Size > 1).GroupBy(bucket => bucket.Group))
        {
            Reductions([.. alike], rank);
        }

        AllReduce("gradient norm", _model.Mesh.Gradients, 1, sizeof(double));
        AllReduce("totals", _model.Mesh.Metrics, 1, 5 * sizeof(double));
    }

    private void Reductions(GradientBucketPlan[] buckets, int rank)
    {
        var what = buckets[0].Parameters[0].ExpertIds is null ? "dense" : "experts";
        var unevenness = _device.Collectives == CollectiveForm.Direct ? Unevenness(buckets) : 1;
        foreach (var bucket in buckets)
        {
            var bytes = (double)bucket.Count * bucket.Type.Size();
            if (!_model.Config.Parallel.ShardOptimizer)
            {
                AllReduce($"gradients, {what}", bucket.Group, 1, bytes);
                continue;
            }

            ReduceScatter($"gradients, {what}", bucket.Group, 1, bytes, unevenness);
            Gather($"weights, {what}", bucket.Group, 1, (double)_model.OwnedOf(bucket, rank) * bucket.Type.Size(), bytes, unevenness);
        }
    }

    // A matrix goes whole to its owner, so the rank that owns most receives, and then sends, more than the mean.
    private static double Unevenness(GradientBucketPlan[] buckets)
    {
        var owned = new long[buckets[0].Group.Size];
        foreach (var bucket in buckets)
        {
            for (var rank = 0; rank < owned.Length; rank++)
            {
                owned[rank] += bucket.Segments[rank];
            }
        }

        return (double)owned.Max() * owned.Length / owned.Sum();
    }

    // MKOR adds up the sums of each matrix's inputs and output gradients, and their number, in the steps that update its factors.
    private void RowSums()
    {
        var optimizer = _model.Config.Optimizer;
        if (optimizer.Precondition == Precondition.None)
        {
            return;
        }

        var placement = new ParameterPlacement(_model.Mesh);
        var matrices = _model.Parameters.Where(parameter =>
            parameter.Kind is ParameterKind.Matrix or ParameterKind.Expert
            && parameter.Keys.Any(key => !optimizer.Mkor.Skip.Any(skip => OptimizerAssignment.Matches(skip.Match, key))));
        foreach (var alike in matrices.GroupBy(placement.ReduceGroup))
        {
            var numbers = alike.Sum(parameter => (parameter.ExpertIds?.Length ?? 1.0) * (parameter.Value.Size(-1) + parameter.Value.Size(-2) + 1));
            AllReduce("row sums", alike.Key, 1.0 / optimizer.Mkor.InverseFrequency, numbers * sizeof(double));
        }
    }

    private void Exchange(string purpose, ProcessGroup group, double calls, double leaving) =>
        Add(purpose, Collective.AllToAll, group, calls, leaving, leaving, Direct(group, leaving));

    private void Gather(string purpose, ProcessGroup group, double calls, double own, double? all = null, double unevenness = 1)
    {
        var whole = all ?? own * group.Size;
        var (sent, seconds) = Spread(group, whole);
        Add(purpose, Collective.AllGather, group, calls, own, sent, seconds * unevenness);
    }

    private void ReduceScatter(string purpose, ProcessGroup group, double calls, double bytes, double unevenness = 1)
    {
        var (sent, seconds) = Spread(group, bytes);
        Add(purpose, Collective.ReduceScatter, group, calls, bytes, sent, (seconds + (bytes / _device.CopyRate)) * unevenness);
    }

    private void AllReduce(string purpose, ProcessGroup group, double calls, double bytes)
    {
        if (bytes * group.Size <= GatheredLimit)
        {
            var sent = bytes * (group.Size - 1);
            Add(purpose, Collective.AllReduce, group, calls, bytes, sent, _device.Collectives == CollectiveForm.Ring ? Spread(group, bytes).Seconds : Direct(group, sent));
            return;
        }

        var (half, seconds) = Spread(group, bytes);
        Add(purpose, Collective.AllReduce, group, calls, bytes, 2 * half, (2 * seconds) + (bytes / _device.CopyRate));
    }

    // Bytes that a rank sends so that each has its share of a tensor from all, or all the shares of each.
    private (double Sent, double Seconds) Spread(ProcessGroup group, double bytes)
    {
        var sent = bytes * (group.Size - 1) / group.Size;
        if (group.Size == 1)
        {
            return (0, 0);
        }

        if (_device.Collectives == CollectiveForm.Direct)
        {
            return (sent, Direct(group, sent));
        }

        var near = PeersInside(group) + 1;
        var nodes = (group.Size + near - 1) / near;
        var inside = near > 1 ? bytes * (near - 1) / near / _device.InsideNode.BytesPerSecond : 0;
        var between = nodes > 1 ? bytes * (nodes - 1) / nodes / near / _device.BetweenNodes.BytesPerSecond : 0;
        var latency = Math.Ceiling(Math.Log2(group.Size)) * (nodes > 1 ? _device.BetweenNodes.Latency : _device.InsideNode.Latency);
        return (sent, Math.Max(inside, between) + latency);
    }

    // To every other rank a message of its own; both kinds of link at work at the same time.
    private double Direct(ProcessGroup group, double leaving)
    {
        if (group.Size == 1)
        {
            return 0;
        }

        var near = PeersInside(group);
        var far = group.Size - 1 - near;
        double Over(LinkRate link, int peers) => peers == 0 ? 0 : (peers * link.Latency) + (leaving * peers / (group.Size - 1) / link.BytesPerSecond);
        return Math.Max(Over(_device.InsideNode, near), Over(_device.BetweenNodes, far));
    }

    // Ranks of a group that stand on this rank's node: those of an expert group are neighbours, those of a replica group as far apart as an expert group is long.
    private int PeersInside(ProcessGroup group)
    {
        var node = group.Members[0] / _perNode;
        var peers = 0;
        while (peers + 1 < group.Size && group.Members[peers + 1] / _perNode == node)
        {
            peers++;
        }

        return peers;
    }

    private void Add(string purpose, Collective operation, ProcessGroup group, double calls, double bytes, double sent, double seconds)
    {
        var near = group.Size == 1 ? 0 : (double)PeersInside(group) / (group.Size - 1);
        var i = _items.FindIndex(item => item.Purpose == purpose && item.Operation == operation && item.Ranks == group.Size);
        var item = i >= 0 ? _items[i] : new CollectiveItem(purpose, operation, group.Size, 0, 0, 0, 0, 0);
        var added = item with
        {
            Calls = item.Calls + calls,
            Bytes = item.Bytes + (calls * bytes),
            Inside = item.Inside + (calls * sent * near),
            Between = item.Between + (calls * sent * (1 - near)),
            Seconds = item.Seconds + (calls * seconds),
        };
        if (i >= 0)
        {
            _items[i] = added;
        }
        else
        {
            _items.Add(added);
        }
    }

    // An exchange: among whom, the rows that a rank packs for it, and the numbers that tell a destination their sizes.
    private readonly record struct Hop(ProcessGroup Group, double Rows, int Sizes);
}
