using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>Size of the whole model, every logical parameter counted once.</summary>
/// <param name="Total">All of them.</param>
/// <param name="Active">Those that one token passes: all dense ones, and of the experts its top k.</param>
public readonly record struct ParameterCount(long Total, long Active)
{
    /// <summary>Counts from one rank's share.</summary>
    /// <param name="parameters">As this rank holds them.</param>
    /// <param name="expertParallel">Ranks that share the experts.</param>
    /// <param name="moe">Experts, and how many of them a token chooses.</param>
    public static ParameterCount Of(IReadOnlyList<Parameter> parameters, int expertParallel, MoeConfig moe)
    {
        var dense = parameters.Where(parameter => parameter.ExpertIds is null).Sum(parameter => parameter.Value.Count);
        var experts = expertParallel * parameters.Where(parameter => parameter.ExpertIds is not null).Sum(parameter => parameter.Value.Count);
        return new ParameterCount(dense + experts, dense + experts / moe.Experts * moe.TopK);
    }

    /// <summary>
    /// Operations that training on one token takes by convention: six for each weight that a token passes (two forward, four backward), and the
    /// causal half of the attention's products. The embedding is looked up, not multiplied, unless it is the head too.
    /// </summary>
    /// <param name="model">The model that was counted.</param>
    public double OperationsPerToken(ModelConfig model)
    {
        var looked = model.TieEmbeddings ? 0 : (long)model.Vocabulary * model.Width;
        return (6.0 * (Active - looked)) + (6.0 * model.Layers * model.SequenceLength * model.Heads * model.HeadSize);
    }
}
