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
/// <param name="Communication">Buffers of the reduction of gradients, when the activations are gone.</param>
/// <param name="Update">Taken by the optimizer's step, when the activations are gone: directions that are made orthogonal.</param>
/// <param name="Process">Taken before the first tensor is made.</param>
/// <param name="LateGradients">Of the gradients those that backward allocates as it comes to them, while the activations go.</param>
public sealed record MemoryPlan(
    IReadOnlyList<MemoryItem> Persistent, IReadOnlyList<MemoryItem> Activations, long Workspace, long Communication, long Update, long Process, long LateGradients)
{
    /// <summary>
    /// At the fullest moment: the end of a forward, that of a backward, the reduction of the gradients, or the update. Within a backward activations and late gradients
    /// pass into each other layer by layer, so that no moment between has more than the fuller of its ends.
    /// </summary>
    public long Peak => Process + Sum(Persistent) - LateGradients
        + Math.Max(Sum(Activations) + Workspace, LateGradients + Math.Max(Workspace, Math.Max(Communication, Update)));

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
        return new(
        [
            new("weights", model.Parameters.Sum(parameter => parameter.Value.Count * parameter.Value.DType.Size())),
            new("gradients", model.Buckets.Sum(bucket => bucket.Count * bucket.Type.Size())),
            .. OptimizerState(model, rank ?? model.FullestRank()),
        ],
        kept.Items(),
        WorkspaceBytes(model, kept.Again(), collectives == CollectiveForm.Direct),
        collectives == CollectiveForm.Direct ? ReductionBytes(model, rank ?? model.FullestRank()) : 0,
        UpdateBytes(model, rank ?? model.FullestRank()),
        process,
        model.Config.Train.Accumulation == 1 ? model.Buckets.Where(bucket => bucket.IsDirect).Sum(bucket => bucket.Count * bucket.Type.Size()) : 0);
    }

    /// <summary>The same rank with other activations.</summary>
    /// <param name="model">As before.</param>
    /// <param name="choice">What is computed again and offloaded.</param>
    /// <param name="collectives">As before.</param>
    internal MemoryPlan With(PlannedModel model, MemoryChoice choice, CollectiveForm collectives)
    {
        var kept = new KeptActivations(model, choice);
        return this with { Activations = kept.Items(), Workspace = WorkspaceBytes(model, kept.Again(), collectives == CollectiveForm.Direct) };
    }

    private static long Sum(IEnumerable<MemoryItem> items) => items.Sum(item => item.Bytes);

    private static IEnumerable<MemoryItem> OptimizerState(PlannedModel model, int rank)
    {
        var stepped = model.Stepped(rank).ToList();
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

    // The direction of every matrix, and of the shape with most of them two iterates and two squares: NewtonSchulz.
    private static long UpdateBytes(PlannedModel model, int rank)
    {
        var size = ((NewtonSchulz)MuonAssembly.Options(model.Config.Optimizer).Direction).Precision switch
        {
            DType.Float64 => 8,
            DType.Float32 => 4,
            null when model.WideSize == 8 => 8,
            _ => 2,
        };
        var matrices = model.Stepped(rank).Where(matrix => OptimizerAssignment.NeedsMatrix(matrix.Choice.Optimizer)).ToList();
        var largest = matrices.GroupBy(matrix => (Short: Math.Min(matrix.Rows, matrix.Columns), Long: Math.Max(matrix.Rows, matrix.Columns)))
            .Select(alike => alike.Count() * 2 * size * ((alike.Key.Short * alike.Key.Long) + (alike.Key.Short * alike.Key.Short)))
            .DefaultIfEmpty().Max();
        return matrices.Sum(matrix => matrix.Count * model.WideSize) + largest;
    }

    // A chunk of logits with its gradients and the head's, or what is computed again of a layer and its experts in backward: their hidden
    // gradients, the rows' and the weights'.
    private static long WorkspaceBytes(PlannedModel model, long again, bool isOnHost)
    {
        const long HostChunk = 64 << 20, DeviceChunk = 512 << 20; // LinearCrossEntropyKernel
        var shape = model.Config.Model;
        var (rows, width, hidden) = (model.Rows, (long)shape.Width, (long)shape.Moe.ExpertWidth);
        var logits = Math.Min(isOnHost ? HostChunk : DeviceChunk, model.Tokens * shape.Vocabulary * model.WideSize) + (shape.Vocabulary * width * model.WideSize);
        var experts = model.ExpertLayers == 0
            ? 0
            : (rows * ((3 * width) + (4 * hidden)) * model.ActivationSize) + (3L * model.LocalExperts * hidden * width * MatrixGradientSize(model));
        return Math.Max(logits, again + experts);
    }

    // Bytes of an element of the experts' gradients while the chunks' parts are added up: several in float32 beside the last one.
    private static long MatrixGradientSize(PlannedModel model)
    {
        var (size, chunks) = ((long)model.ActivationSize, model.Config.Parallel.DispatchChunks);
        return size + (chunks > 2 ? Math.Max(size, sizeof(float)) : chunks > 1 ? size : 0);
    }

    // Where ranks send to each other directly, every rank's contribution to what this one adds up, all buckets under way at once.
    private static long ReductionBytes(PlannedModel model, int rank) => model.Buckets.Where(bucket => bucket.Group.Size > 1).Sum(bucket =>
        model.Config.Parallel.ShardOptimizer ? bucket.Group.Size * model.OwnedOf(bucket, rank) * bucket.Type.Size() : bucket.Count * bucket.Type.Size());
}
