using Moe.Training.Configuration;

namespace Moe.Training.Checkpoints;

/// <summary>What going on from a <see cref="RunPosition"/> asks of a configuration; it follows from the manifest, so that it is known before any rank starts.</summary>
public static class Continuation
{
    /// <summary>Refuses parameters that were stepped by other optimizers than the configuration has step them.</summary>
    /// <param name="position">Where the run stands.</param>
    /// <param name="config">Of the same model.</param>
    /// <exception cref="CheckpointException">Names the optimizers, or the parameters that moved.</exception>
    public static void DemandSameOptimizers(RunPosition position, RunConfig config)
    {
        if (position.Optimizer != config.Optimizer.Name.ToString())
        {
            throw new CheckpointException(
                $"the checkpoint holds the state of optimizer {position.Optimizer}, the configuration asks for {config.Optimizer.Name}");
        }

        var assignment = new OptimizerAssignment(ModelAssembly.Options(config.Model), config.Optimizer);
        if (position.Assignment is { } names && assignment.Moved(names).ToList() is { Count: > 0 } moved)
        {
            throw new CheckpointException(
                "the checkpoint's parameters have other optimizers than optimizer.rules gives them: "
                + string.Join(", ", moved.Select(line => $"{line.Pattern} was stepped by {line.From}, now {line.To}")));
        }
    }

    /// <summary>The configuration for going on with as many sequences a step as before, on another number of ranks.</summary>
    /// <param name="position">Where the run stands.</param>
    /// <param name="config">As read.</param>
    /// <param name="ranks">Ranks of this run.</param>
    /// <param name="warn">Told where accumulation changes.</param>
    /// <exception cref="CheckpointException">No accumulation makes the same global batch, or steps are of one micro-batch only.</exception>
    public static RunConfig Adapt(RunPosition position, RunConfig config, int ranks, Action<string> warn)
    {
        var before = position.GlobalBatch;
        var train = config.Train;
        var perMicroStep = (long)ranks * train.MicroBatch;
        if (perMicroStep * train.Accumulation == before || !train.KeepGlobalBatch)
        {
            return config;
        }

        if (before % perMicroStep != 0)
        {
            throw new CheckpointException(
                $"the checkpoint was trained with {before} sequences a step; {ranks} rank(s) of train.micro_batch={train.MicroBatch} make {perMicroStep} a micro-step, "
                + $"which does not divide it: choose train.micro_batch so that ranks x micro_batch divides {before}, or set train.keep_global_batch=false");
        }

        var accumulation = checked((int)(before / perMicroStep));
        if (config.Optimizer.ExpertsInBackward && accumulation > 1)
        {
            throw new CheckpointException(
                $"the checkpoint was trained with {before} sequences a step, which {ranks} rank(s) of train.micro_batch={train.MicroBatch} make in {accumulation} micro-steps, but "
                + $"optimizer.experts_in_backward steps in a step's only backward: set train.micro_batch={train.MicroBatch * accumulation}, train.keep_global_batch=false, or "
                + "optimizer.experts_in_backward=false");
        }

        warn($"train.accumulation is {accumulation} instead of {train.Accumulation}, so that a step has {before} sequences as before (train.keep_global_batch)");

        // A single micro-step was balanced by the counts of the whole batch; only exact counts are those when it is several.
        var balance = train.Accumulation == 1 ? config.Balance with { Accumulation = BalanceAccumulation.Exact } : config.Balance;
        return config with { Train = train with { Accumulation = accumulation }, Balance = balance };
    }
}
