using Moe.Distributed;
using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>Bytes of one kind.</summary>
/// <param name="Kind">As in <c>weights</c>; activations by what is kept for backward.</param>
/// <param name="Bytes">At most at one time.</param>
public readonly record struct MemoryItem(string Kind, long Bytes);

/// <summary>What the fullest rank of a mesh holds at the fullest moment of a step.</summary>
/// <param name="Persistent">Weights, gradients and the optimizer's state: between backward and update.</param>
/// <param name="Activations">Kept from forward to backward of one micro-batch.</param>
/// <param name="Workspace">The largest that one operation takes beside them, with what backward computes again of one layer.</param>
/// <param name="Communication">Buffers of the reduction of gradients when backward is done: those of all buckets.</param>
/// <param name="Update">Taken by the optimizer's step, when the activations are gone: directions that are made orthogonal.</param>
/// <param name="Process">Taken before the first tensor is made.</param>
/// <param name="LateGradients">Of the gradients those that backward allocates as it comes to them, while the activations go.</param>
/// <param name="Forward">At the end of a forward: activations, and what the head takes.</param>
/// <param name="Backward">
/// In the layer of the step's last backward where it is most: what is still kept, what the layer takes beside it, and of the layers above the late gradients and the
/// buffers of sums under way.
/// </param>
public sealed record MemoryPlan(
    IReadOnlyList<MemoryItem> Persistent,
    IReadOnlyList<MemoryItem> Activations,
    long Workspace,
    long Communication,
    long Update,
    long Process,
    long LateGradients,
    long Forward,
    long Backward)
{
    /// <summary>At the fullest moment: the end of a forward, a layer of the last backward, the reduction of the gradients behind it, or the update.</summary>
    public long Peak => Process + Sum(Persistent) - LateGradients
        + Math.Max(Math.Max(Forward, Backward), LateGradients + Math.Max(Communication, Update));

    // Neither depends on what is computed again: LayerBytes and GradientBytes.
    private IReadOnlyList<long> Layers { get; init; } = [];

    private IReadOnlyList<long> Gradients { get; init; } = [];

    /// <summary>Bytes of one kind; 0 where there are none.</summary>
    public long Of(string kind) => Persistent.Concat(Activations).Where(item => item.Kind == kind).Sum(item => item.Bytes);

    /// <summary>Counts a rank.</summary>
    /// <param name="model">On its mesh.</param>
    /// <param name="process">Bytes of a process that has trained nothing.</param>
    /// <param name="rank">World rank; null for the one whose optimizer keeps most.</param>
    /// <param name="collectives">How reductions travel; NCCL's buffers are its own, and part of the process.</param>
    public static MemoryPlan Of(
        PlannedModel model, long process = 0, int? rank = null, CollectiveForm collectives = CollectiveForm.Direct)
    {
        var kept = new KeptActivations(model, MemoryChoice.Of(model.Config));
        var (activations, head) = (kept.Items(), HeadBytes(model, collectives));
        var counted = rank ?? model.FullestRank();
        var (layers, gradients) = (LayerBytes(model), GradientBytes(model, counted, collectives));
        return new(
        [
            new("weights", model.Parameters.Sum(parameter => parameter.Value.Count * parameter.Value.DType.Size())),
            new("gradients", model.Buckets.Sum(Bytes)),
            .. OptimizerState(model, counted),
        ],
        activations,
        Math.Max(head, kept.Again() + layers.Max()),
        model.Buckets.Sum(bucket => BufferBytes(model, bucket, counted, collectives)),
        UpdateBytes(model, [.. model.Stepped(counted).Where(matrix => !(model.Config.Optimizer.ExpertsInBackward && matrix.Kind == ParameterKind.Expert))]),
        process,
        model.Buckets.Where(bucket => IsLate(model, bucket)).Sum(Bytes),
        Sum(activations) + head,
        BackwardBytes(model, kept, layers, gradients))
        {
            Layers = layers,
            Gradients = gradients,
        };
    }

    /// <summary>The same rank with other activations.</summary>
    /// <param name="model">As before.</param>
    /// <param name="choice">What is computed again and offloaded.</param>
    /// <param name="collectives">As before.</param>
    internal MemoryPlan With(PlannedModel model, MemoryChoice choice, CollectiveForm collectives)
    {
        var kept = new KeptActivations(model, choice);
        var (activations, head) = (kept.Items(), HeadBytes(model, collectives));
        return this with
        {
            Activations = activations,
            Workspace = Math.Max(head, kept.Again() + Layers.Max()),
            Forward = Sum(activations) + head,
            Backward = BackwardBytes(model, kept, Layers, Gradients),
        };
    }

    private static long Sum(IEnumerable<MemoryItem> items) => items.Sum(item => item.Bytes);

    // What is stepped within backward is there for the layer's own work alone (LayerBytes).
    private static long Bytes(GradientBucketPlan bucket) => bucket.IsSteppedInBackward ? 0 : bucket.Count * bucket.Type.Size();

    private static IEnumerable<MemoryItem> OptimizerState(PlannedModel model, int rank)
    {
        var stepped = model.Stepped(rank);
        foreach (var alike in stepped.GroupBy(matrix => matrix.Choice.Optimizer))
        {
            var bytes = alike.Sum(matrix =>
            {
                var state = model.StateOf(matrix);
                return (matrix.Count * state.PerElement) + state.PerParameter;
            });
            yield return new MemoryItem($"optimizer {ConfigChoices.Spelling(alike.Key)}", bytes);
        }

        if (model.Config.Optimizer.Precondition != Precondition.None)
        {
            yield return new MemoryItem("optimizer mkor", CurvatureBytes(model, stepped));
        }
    }

    // Matrices that are fused share the factor of their inputs and its count of updates; each has one of its outputs.
    private static long CurvatureBytes(PlannedModel model, IEnumerable<SteppedMatrix> stepped)
    {
        var skip = model.Config.Optimizer.Mkor.Skip;
        var stored = model.Parameters.SelectMany(parameter => parameter.Keys.Chunk(parameter.Parts.Count).Select((keys, i) => (keys, Unit: $"{parameter.Name} {i}")))
            .SelectMany(unit => unit.keys.Select(key => (key, unit.Unit))).ToDictionary();
        var units = stepped
            .Where(matrix => !matrix.IsVector && matrix.Kind is ParameterKind.Matrix or ParameterKind.Expert
                && !skip.Any(rule => OptimizerAssignment.Matches(rule.Match, matrix.Key)))
            .GroupBy(matrix => stored[matrix.Key]);
        return units.Sum(unit => sizeof(long)
            + (model.WideSize * ((unit.First().Columns * unit.First().Columns) + unit.Sum(matrix => matrix.Rows * matrix.Rows))));
    }

    // The direction of every matrix that is made orthogonal, and of the shape where that takes most what it takes.
    private static long UpdateBytes(PlannedModel model, IReadOnlyList<SteppedMatrix> stepped)
    {
        var direction = (NewtonSchulz)MuonAssembly.Options(model.Config.Optimizer).Direction;
        var device = model.Config.Parallel.Device == DeviceName.Cuda ? Device.Cuda(0) : Device.Cpu;
        var matrices = stepped.Where(matrix => OptimizerAssignment.NeedsMatrix(matrix.Choice.Optimizer)).ToList();
        var largest = matrices.GroupBy(matrix => (matrix.Choice, matrix.Rows, matrix.Columns, matrix.Type))
            .Select(alike => direction.WorkspaceBytes(alike.Count(), alike.Key.Rows, alike.Key.Columns, alike.Key.Type, device))
            .DefaultIfEmpty().Max();
        return matrices.Sum(matrix => matrix.Count * matrix.Type.Size()) + largest;
    }

    // The sums that backward has started are waited for behind it, so that their buffers stand until its end. Its last work is the embedding's gradient, which is added to
    // what is there, or is itself late; where the head is the embedding, autograd holds the head's part until then, and makes a third of both. Of each token a norm's
    // backward has two rows that come, the stream's and that of what was normed, and one that it makes.
    private static long BackwardBytes(PlannedModel model, KeptActivations kept, IReadOnlyList<long> layers, IReadOnlyList<long> gradients)
    {
        var embedding = model.Parameters.First(parameter => parameter.Kind == ParameterKind.Embedding);
        var table = embedding.Value.Count * embedding.Value.DType.Size();
        var isTied = model.Config.Model.TieEmbeddings;
        return (3 * model.Tokens * model.Config.Model.Width * model.ActivationSize) + Enumerable.Range(0, model.Config.Model.Layers)
            .Select(layer => kept.UpTo(layer) + kept.Again(layer) + layers[layer] + (isTied ? table : 0) + gradients[layer + 1])
            .Append((isTied ? 3 * table : table) + gradients[0])
            .Max();
    }

    // What gradients take beside the buckets once backward has left a layer, by layer and before the first: late ones that are made, and buffers of sums under way.
    private static long[] GradientBytes(PlannedModel model, int rank, CollectiveForm collectives)
    {
        var buckets = model.Buckets.Select(bucket => (bucket, Bytes: (IsLate(model, bucket) ? Bytes(bucket) : 0) + BufferBytes(model, bucket, rank, collectives))).ToList();
        return [.. Enumerable.Range(0, model.Config.Model.Layers + 1).Select(layer => buckets.Where(part => part.bucket.IsWholeBehind(layer)).Sum(part => part.Bytes))];
    }

    private static bool IsLate(PlannedModel model, GradientBucketPlan bucket) => bucket.IsDirect && model.Config.Train.Accumulation == 1;

    // What backward takes in each layer: its feed-forward part, or the gradient of another of its matrices.
    private static long[] LayerBytes(PlannedModel model)
    {
        var others = model.Parameters.Where(parameter => parameter.Kind != ParameterKind.Expert).ToLookup(parameter => parameter.Layer, parameter => parameter.Value.Count * parameter.Value.DType.Size());
        return [.. Enumerable.Range(0, model.Config.Model.Layers).Select(layer => Math.Max(FeedForwardBytes(model, layer), others[layer].Max()))];
    }

    // What the last layer adds to the stream, its norm, and a chunk of logits, which become their gradients in place; in bfloat16 the head's rounded copy too, and on the host
    // what its products widen at a time, on a GPU a term of the head's gradient where the library can't add to that.
    private static long HeadBytes(PlannedModel model, CollectiveForm collectives)
    {
        const long HostChunk = 64 << 20, DeviceChunk = 512 << 20; // LinearCrossEntropyKernel
        const long Widened = 2 * 1024 * 1024 * sizeof(float); // a block's sums and, where it isn't for tiles, its factors: native/kernels/matmul.cpp
        var (shape, isOnHost) = (model.Config.Model, collectives == CollectiveForm.Direct);
        var head = (long)shape.Vocabulary * shape.Width;
        return (2 * model.Tokens * shape.Width * model.ActivationSize)
            + Math.Min(isOnHost ? HostChunk : DeviceChunk, model.Tokens * shape.Vocabulary * model.ActivationSize)
            + (model.ActivationSize == model.WideSize ? 0 : isOnHost ? (head * model.ActivationSize) + Widened : head * model.WideSize);
    }

    // The hidden gradients of a feed-forward part in backward, the rows' and the weights'.
    private static long FeedForwardBytes(PlannedModel model, int layer)
    {
        var shape = model.Config.Model;
        var (rows, hidden, matrices) = layer < shape.DenseLayers
            ? (model.Tokens, (long)shape.DenseHiddenSize, (long)model.ActivationSize)
            : (model.Rows, (long)shape.Moe.ExpertWidth, model.LocalExperts * MatrixGradientSize(model));
        return (rows * ((3L * shape.Width) + (4 * hidden)) * model.ActivationSize) + (3 * hidden * shape.Width * matrices) + StepBytes(model, layer);
    }

    // What stepping a layer's experts within backward takes beside their gradient, of the matrix where it is most: the gradient in the weights' type, where that is another,
    // and directions that are made orthogonal.
    private static long StepBytes(PlannedModel model, int layer) => model.Buckets
        .Where(bucket => bucket.IsSteppedInBackward && bucket.Parameters[0].Layer == layer)
        .Select(bucket =>
        {
            var keys = bucket.Parameters[0].Keys.ToHashSet();
            var widened = bucket.Type.Size() == model.ActivationSize ? 0 : bucket.Count * bucket.Type.Size();
            return widened + UpdateBytes(model, [.. model.Stepped(0).Where(matrix => keys.Contains(matrix.Key))]);
        })
        .DefaultIfEmpty()
        .Max();

    // Bytes of an element of the experts' gradients while the chunks' parts are added up: several in float32 beside the last one.
    private static long MatrixGradientSize(PlannedModel model)
    {
        var (size, chunks) = ((long)model.ActivationSize, model.Config.Parallel.DispatchChunks);
        return size + (chunks > 2 ? Math.Max(size, sizeof(float)) : chunks > 1 ? size : 0);
    }

    // Where ranks send to each other directly, every rank's contribution to what this one adds up of a bucket.
    private static long BufferBytes(PlannedModel model, GradientBucketPlan bucket, int rank, CollectiveForm collectives) =>
        collectives != CollectiveForm.Direct || bucket.Group.Size == 1 ? 0
        : model.Config.Parallel.ShardOptimizer ? bucket.Group.Size * model.OwnedOf(bucket, rank) * bucket.Type.Size()
        : Bytes(bucket);
}
