using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Tests.Training;

/// <summary>
/// The gradient of a step with global balancing, from its definition alone: one process, a loop over micro-steps, counts in plain arrays,
/// no reduction, no trainer.
/// </summary>
internal static class BalancingOracle
{
    /// <summary>Gradient of the mean loss by logical key.</summary>
    /// <param name="config">Its micro-batch is read whole by this process; micro-step m is balanced by the counts of 1 to m.</param>
    /// <param name="consumed">Samples before this step.</param>
    public static Dictionary<string, double[]> Gradients(RunConfig config, long consumed)
    {
        using var mesh = TinyRun.Alone();
        using var session = TinyRun.Session(config, mesh);
        var model = session.Model;
        var experts = config.Model.Moe.Experts;
        var counted = new double[config.Model.Layers * experts];
        for (var microStep = 0; microStep < config.Train.Accumulation; microStep++)
        {
            using var scope = new TensorScope();
            var batch = session.Batches.Read(consumed, microStep);
            var forward = model.Forward(batch.Tokens, batch.Targets, TinyRun.SegmentSequences);
            var loss = forward.LossSum;
            for (var layer = 0; layer < config.Model.Layers; layer++)
            {
                var router = forward.Routers[layer];
                var seen = counted.AsSpan(layer * experts, experts);
                foreach (var (i, count) in router.Counts.ToArray<long>().Index())
                {
                    seen[i % experts] += count;
                }

                var choices = System.Numerics.Tensors.TensorPrimitives.Sum<double>(seen);
                var fractions = Array.ConvertAll(seen.ToArray(), count => count / choices);
                loss += (router.ScoreSums.Sum(0) * Tensor.From(fractions)).Sum() * (config.Balance.Coefficient * experts);
            }

            Autograd.Backward(loss);
        }

        using var views = new TensorScope();
        return model.Parameters
            .SelectMany(parameter => parameter.Logical(parameter.Value.Gradient! * (1.0 / session.Batches.TokensPerStep)))
            .ToDictionary(logical => logical.Key, logical => logical.Value.Contiguous().ToArray<double>());
    }
}
