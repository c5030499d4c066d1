using System.Globalization;

namespace Moe.Training.Configuration;

/// <summary>
/// How large a model and a batch may be together. Each bound lies far above what has been trained, and far below where a count of elements or bytes,
/// over all layers and 2^20 ranks, would not fit 64 bits; within them a plan takes seconds.
/// </summary>
internal static class SizeRules
{
    private const double MostExperts = 1 << 17, MostHidden = 1 << 26, MostTable = 1L << 38, MostParameters = 1e15, MostTokens = 1 << 30, MostActivations = 1L << 50;

    /// <summary>Sizes that are refused.</summary>
    public static readonly IReadOnlyList<CombinationRule> All =
    [
        new(["model.moe.experts", "model.layers", "model.dense_layers"],
            c => Excess((double)Math.Max(0, c.Model.MoeLayers) * c.Model.Moe.Experts, MostExperts, "experts") is { } excess
                ? $"model.moe.experts {c.Model.Moe.Experts} in each of {c.Model.MoeLayers} layers are {excess}" : null),
        new(["model.moe.expert_width", "model.moe.top_k", "model.moe.shared_experts"],
            c => Excess(((double)c.Model.Moe.TopK + c.Model.Moe.SharedExperts) * c.Model.Moe.ExpertWidth, MostHidden, "hidden numbers") is { } excess
                ? $"model.moe.expert_width {c.Model.Moe.ExpertWidth}, in each of model.moe.top_k {c.Model.Moe.TopK} and model.moe.shared_experts {c.Model.Moe.SharedExperts}, gives a token {excess}" : null),
        new(["model.vocabulary", "model.width"],
            c => Excess((double)c.Model.Vocabulary * c.Model.Width, MostTable, "numbers") is { } excess
                ? $"model.vocabulary {c.Model.Vocabulary} and model.width {c.Model.Width} make an embedding of {excess}" : null),
        new(["model.width", "model.layers", "model.dense_layers", "model.dense_width", "model.heads", "model.key_value_heads", "model.head_width", "model.vocabulary",
                "model.moe.experts", "model.moe.expert_width", "model.moe.shared_experts", "model.moe.top_k"],
            c => Excess(Parameters(c.Model), MostParameters, "parameters") is { } excess ? $"the model has {excess}" : null,
            _ => "a smaller model.width, model.layers, model.moe.experts or model.moe.expert_width"),
        new(["train.micro_batch", "train.accumulation", "model.sequence_length"],
            c => Excess((double)c.Train.MicroBatch * c.Train.Accumulation * c.Model.SequenceLength, MostTokens, "tokens a step") is { } excess
                ? $"train.micro_batch {c.Train.MicroBatch}, train.accumulation {c.Train.Accumulation} and model.sequence_length {c.Model.SequenceLength} give a rank {excess}" : null),
        new(["train.micro_batch", "model.sequence_length", "model.layers", "model.width", "model.heads", "model.key_value_heads", "model.head_width", "model.dense_width",
                "model.moe.experts", "model.moe.expert_width", "model.moe.shared_experts", "model.moe.top_k"],
            c => Excess((double)c.Train.MicroBatch * c.Model.SequenceLength * c.Model.Layers * OfToken(c.Model), MostActivations, "numbers") is { } excess
                ? $"a forward of train.micro_batch {c.Train.MicroBatch} and model.sequence_length {c.Model.SequenceLength} makes {excess}" : null,
            _ => "a smaller train.micro_batch, model.sequence_length or model"),
    ];

    // In words where it is too much.
    private static string? Excess(double value, double most, string unit) =>
        value <= most ? null : string.Create(CultureInfo.InvariantCulture, $"{value:0.###e+0} {unit} (at most {most:0.###e+0})");

    private static double Parameters(ModelConfig model)
    {
        var attention = (2.0 * model.Heads * model.HeadSize) + (2.0 * model.KeyValueHeadCount * model.HeadSize);
        var moe = model.Moe;
        var experts = moe.Experts + (3.0 * ((double)moe.Experts + moe.SharedExperts) * moe.ExpertWidth);
        return model.Width * ((2.0 * model.Vocabulary) + (model.Layers * attention) + (Math.Max(0, model.MoeLayers) * experts) + (model.DenseLayers * 3.0 * model.DenseHiddenSize));
    }

    // What a layer makes of a token, generously: rows for its experts with ids and weights of all choices behind each, hidden numbers, projections, scores.
    private static double OfToken(ModelConfig model)
    {
        var moe = model.Moe;
        return (16.0 * model.Width) + (4.0 * (model.Heads + model.KeyValueHeadCount) * model.HeadSize) + (4.0 * moe.Experts)
            + (moe.TopK * ((4.0 * model.Width) + (8.0 * moe.ExpertWidth) + (16.0 * moe.TopK))) + (8.0 * moe.SharedExperts * moe.ExpertWidth) + (8.0 * model.DenseHiddenSize);
    }
}
