using System.Diagnostics;
using Moe.Distributed;
using Moe.Models;
using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>What one step computed; the same on every rank.</summary>
public sealed record StepResult
{
    /// <summary>Nats per token of the language model, mean over the global batch, before the update.</summary>
    public required double Loss { get; init; }

    /// <summary>E * sum f_i P_i, mean over layers and tokens; 1 when balanced, 0 without a balancing loss.</summary>
    public required double BalanceLoss { get; init; }

    /// <summary>Mean over layers and tokens of logsumexp(logits)^2.</summary>
    public required double ZLoss { get; init; }

    /// <summary>Euclidean norm of the gradient of the whole model, before clipping.</summary>
    public required double GradientNorm { get; init; }

    /// <summary>Whether the update was made; it is left out on all ranks where loss or gradient is not finite (where experts were stepped within backward, that is an exception).</summary>
    public required bool Updated { get; init; }

    /// <summary>Key of the first parameter, by the model's order, whose gradient is not finite; null where all are.</summary>
    public string? NotFinite { get; init; }

    /// <summary>Choices of the router that went to no expert because it was full.</summary>
    public required long Dropped { get; init; }

    /// <summary>Load of the experts over the global batch.</summary>
    public required ExpertLoad Load { get; init; }

    /// <summary>Whether any rank was asked to stop.</summary>
    public required bool Stop { get; init; }

    /// <summary>What the update took on this rank, with the sending of new weights to the ranks that hold them; zero where it was left out.</summary>
    public TimeSpan OptimizerTime { get; init; }

    /// <summary>Operators and kernels that the update called on this rank.</summary>
    public long OptimizerCalls { get; init; }

    /// <summary>What each rank measured of itself, by <see cref="RankMeter.Keys"/>, each [ranks]; null where it was not asked for.</summary>
    public IReadOnlyDictionary<string, double[]>? Ranks { get; init; }
}

/// <summary>
/// One optimizer step over a global batch: forward and backward of each micro-batch, one reduction of the gradients, clipping, update.
/// </summary>
/// <remarks>
/// Losses are sums over tokens, gradients are summed over ranks, and the one factor 1 / tokens is applied once, after the reduction: then
/// nothing depends on how the batch is cut. See docs/design.md.
/// </remarks>
/// <param name="model">This rank's share of the model.</param>
/// <param name="mesh">All ranks.</param>
/// <param name="reduction">Of the model's gradients; stays the caller's.</param>
/// <param name="optimizer">Steps the model's parameters.</param>
/// <param name="balance">What keeps the experts equally loaded.</param>
/// <param name="clipNorm">Largest norm of the gradient; 0 for no limit.</param>
/// <param name="sequencesPerSegment">Sequences of a micro-batch as configured: the unit of balancing by micro-batch and of capacity.</param>
/// <param name="capture">Whether forward and backward become one graph of the device, where the step has one micro-batch; only for a lone rank on a GPU.</param>
public sealed class TrainStep(
    Transformer model,
    DeviceMesh mesh,
    GradientReduction reduction,
    Optimizer optimizer,
    BalanceConfig balance,
    double clipNorm,
    int sequencesPerSegment,
    bool capture = false) : IDisposable
{
    private readonly int _moeLayers = model.SelectionBiases.Count;
    private readonly MicroStep _micro = new(model, mesh, balance, sequencesPerSegment);
    private CapturedMicroStep? _captured;

    /// <summary>Whether forward and backward are a graph now, which holds memory that the allocator counts as free.</summary>
    public bool IsCaptured => _captured?.IsCaptured ?? false;

    /// <summary>Makes one step.</summary>
    /// <param name="batches">This rank's micro-batches.</param>
    /// <param name="step">Steps done before.</param>
    /// <param name="consumed">Samples used by all earlier steps.</param>
    /// <param name="learningRate">Of this step.</param>
    /// <param name="stop">Whether this rank was asked to stop; the ranks agree on it here.</param>
    /// <param name="meter">Read at the step's last exchange; null, on all ranks alike, where its numbers are not wanted.</param>
    public StepResult Run(TrainingBatches batches, long step, long consumed, double learningRate, bool stop, RankMeter? meter = null)
    {
        Prepare(step, learningRate, batches);
        using var totals = new StepTotals();
        var load = NewLoad();
        var wholeBatch = CountFirst ? CountAll(batches, consumed) : null;
        wholeBatch?.Settle();
        for (var microStep = 0; microStep < batches.Plan.Accumulation; microStep++)
        {
            using var scope = new TensorScope();
            var batch = batches.Read(consumed, microStep);
            if (microStep == batches.Plan.Accumulation - 1)
            {
                reduction.ExpectLastBackward();
            }

            totals.Add(Captured(batches) is { } captured ? captured.Run(batch, load) : _micro.Run(batch, load, wholeBatch));
        }

        mesh.World.Trace.Layer = null;
        Reduce(1.0 / batches.TokensPerStep);
        var started = Stopwatch.GetTimestamp();
        PrepareUpdate();
        var time = Stopwatch.GetElapsedTime(started);
        var gradient = MeasureNorm();
        Agree(totals, load, stop, meter, step + 1);
        var updated = gradient.IsFinite && double.IsFinite(totals.Loss);
        if (!updated && reduction.HasSteppedInBackward)
        {
            throw Spoilt(gradient, totals.Loss);
        }

        var calls = 0L;
        if (updated)
        {
            Clip(gradient);
            var norm = clipNorm > 0 ? Math.Min(gradient.Norm, clipNorm) : gradient.Norm;
            (started, calls) = (Stopwatch.GetTimestamp(), Operator.Calls);
            var order = new OptimizerStep(learningRate, norm, totals.Loss / batches.TokensPerStep, load.IsIdle, IsFrozen);
            using (Spans.Open("optimizer"))
            {
                optimizer.Step(order);
            }

            calls = Operator.Calls - calls;
            using (Spans.Open("sharing"))
            {
                reduction.ShareValues();
            }

            time += Stopwatch.GetElapsedTime(started);
            UpdateBias(load);
        }

        var perLayerToken = 1.0 / (batches.TokensPerStep * Math.Max(1, _moeLayers));
        return new StepResult
        {
            Loss = totals.Loss / batches.TokensPerStep,
            BalanceLoss = totals.Balance * perLayerToken,
            ZLoss = totals.Z * perLayerToken,
            GradientNorm = gradient.Norm,
            Updated = updated,
            NotFinite = gradient.FirstNotFinite(),
            Dropped = (long)totals.Dropped,
            Load = load,
            Stop = totals.Stop,
            OptimizerTime = updated ? time : TimeSpan.Zero,
            OptimizerCalls = calls,
            Ranks = totals.Ranks,
        };
    }

    /// <summary>Frees the graph; all else stays the caller's.</summary>
    public void Dispose() => _captured?.Dispose();

    private bool IsFrozen(LogicalParameter parameter) => optimizer.Freezes(parameter.Kind, parameter.Layer);

    private CapturedMicroStep? Captured(TrainingBatches batches) =>
        capture && batches.Plan.Accumulation == 1 ? _captured ??= new CapturedMicroStep(_micro, model, NewLoad) : null;

    private void Prepare(long step, double learningRate, TrainingBatches batches)
    {
        using var span = Spans.Open("preparation");
        optimizer.Begin(step);
        FreezeAndThaw();
        reduction.Zero();
        reduction.StepInBackward(1.0 / batches.TokensPerStep, new BackwardStepper(optimizer, new OptimizerStep(learningRate, IsFrozen: IsFrozen)));
    }

    private static TrainingException Spoilt(GradientNorm gradient, double loss) => new(
        FormattableString.Invariant($"the loss is {loss:G6} and the gradient's norm {gradient.Norm:G6}")
            + $"{(gradient.FirstNotFinite() is { } key ? $", first in '{key}'" : "")}, but experts were stepped within backward already: the step can't be left out",
        "resume from the last checkpoint, with optimizer.experts_in_backward=false where such steps are to be left out, or a lower optimizer.learning_rate");

    private void Reduce(double factor)
    {
        using var span = Spans.Open("reduction");
        reduction.Reduce(factor);
    }

    // Before the host waits for the norm: lists of thousands of parameters would hold the device up after it.
    private void PrepareUpdate()
    {
        using var span = Spans.Open("optimizer");
        optimizer.Prepare(IsFrozen);
    }

    private GradientNorm MeasureNorm()
    {
        using var span = Spans.Open("gradient norm");
        return reduction.MeasureNorm();
    }

    private void Agree(StepTotals totals, ExpertLoad load, bool stop, RankMeter? meter, long step)
    {
        using var span = Spans.Open("totals");
        totals.AllReduce(mesh.Metrics, stop, meter, step);
        load.Settle();
    }

    private void Clip(GradientNorm gradient)
    {
        using var span = Spans.Open("gradient norm");
        gradient.Clip(clipNorm);
        if (!optimizer.ScalesGradients)
        {
            reduction.SettleScales();
        }
    }

    // What the optimizer leaves alone in this step leaves the graph, alike on all ranks: backward ends where nothing below trains, and with it what
    // it would communicate. Gradients that are not computed stay zeros.
    private void FreezeAndThaw()
    {
        foreach (var parameter in model.Parameters)
        {
            var isTrained = !optimizer.Freezes(parameter.Kind, parameter.Layer);
            if (parameter.Value.RequiresGrad != isTrained)
            {
                parameter.Value.RequiresGrad = isTrained;
            }
        }
    }

    // With a single micro-step its own counts are already those of the global batch.
    private bool CountFirst => balance is { Scope: BalanceScope.Global, Accumulation: BalanceAccumulation.Exact, Coefficient: > 0 } && _moeLayers > 0;

    private ExpertLoad NewLoad() => new(mesh.Metrics, _moeLayers, model.Options.Moe.Experts, model.Options.DenseLayers);

    // Routing does not depend on the balancing loss, so a forward without gradient finds the counts that the training forwards will have.
    private ExpertLoad? CountAll(TrainingBatches batches, long consumed)
    {
        if (batches.Plan.Accumulation == 1)
        {
            return null;
        }

        using var span = Spans.Phase("counting");
        using var mode = Autograd.NoGrad();
        var load = NewLoad();
        for (var microStep = 0; microStep < batches.Plan.Accumulation; microStep++)
        {
            using var scope = new TensorScope();
            var batch = batches.Read(consumed, microStep);
            load.Add(model.CountSelections(batch.Tokens, sequencesPerSegment));
        }

        return load;
    }

    private void UpdateBias(ExpertLoad load)
    {
        if (balance.BiasRate > 0)
        {
            using var span = Spans.Open("bias");
            using var scope = new TensorScope();
            var counts = load.ToTensor().To(model.Device);
            for (var layer = 0; layer < _moeLayers; layer++)
            {
                var bias = model.SelectionBiases[layer].Value;
                bias.CopyFrom_(SelectionBias.Updated(bias, counts.Select(0, layer), balance.BiasRate));
            }
        }
    }
}
