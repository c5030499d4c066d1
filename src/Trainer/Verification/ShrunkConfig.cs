using Moe.Training.Configuration;

namespace Moe.Training.Verification;

/// <summary>A user's configuration made small enough for a few steps in seconds, with everything kept that decides how work is split.</summary>
internal static class ShrunkConfig
{
    private const int Accumulation = 2;

    // Small enough to bite at every step: a wrong norm would go unnoticed without clipping.
    private const double ClipNorm = 0.1;

    /// <summary>The small run: at most two layers with experts and one without, narrow, short; two micro-steps, clipping on, but where experts are stepped within backward.</summary>
    /// <param name="config">The user's.</param>
    /// <param name="expertParallel">Ranks that share the experts; divides the experts before and after.</param>
    public static RunConfig Of(RunConfig config, int expertParallel)
    {
        var model = config.Model;
        var heads = Math.Min(model.Heads, 4);
        var queriesPerKey = model.Heads / model.KeyValueHeadCount;
        var headWidth = Math.Min(model.HeadSize, 16);
        var dense = Math.Min(model.DenseLayers, 1);
        var experts = Experts(model.Moe, expertParallel);
        return config with
        {
            Model = model with
            {
                DenseLayers = dense,
                Layers = Math.Min(model.Layers, dense + 2),
                Width = heads * headWidth,
                Heads = heads,
                KeyValueHeads = heads % queriesPerKey == 0 ? heads / queriesPerKey : 1,
                HeadWidth = headWidth,
                SequenceLength = Math.Min(model.SequenceLength, 32),
                DenseWidth = Math.Min(model.DenseHiddenSize, 48),
                Moe = model.Moe with
                {
                    Experts = experts,
                    TopK = Math.Min(model.Moe.TopK, experts),
                    ExpertWidth = Math.Min(model.Moe.ExpertWidth, 24),
                },
            },
            Train = config.Train with
            {
                MicroBatch = Math.Min(config.Train.MicroBatch, 2),
                Accumulation = config.Optimizer.ExpertsInBackward ? 1 : Accumulation,
                ClipNorm = config.Optimizer.ExpertsInBackward ? 0 : ClipNorm,
            },
            Schedule = config.Schedule with { Name = ScheduleName.Constant, WarmupSteps = 0 },
        };
    }

    private static int Experts(MoeConfig moe, int expertParallel)
    {
        var perRank = moe.Experts / expertParallel;
        var fitting = Math.Max(1, Math.Max(32, moe.TopK + expertParallel) / expertParallel);
        return expertParallel * Math.Min(perRank, fitting);
    }
}
