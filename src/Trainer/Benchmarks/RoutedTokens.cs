using Moe.Models;
using Moe.Torch;

namespace Moe.Training.Benchmarks;

/// <summary>A micro-batch of random tokens with the choices that a router of random weights makes for them: experts get ragged numbers of rows.</summary>
/// <remarks>Shapes: T tokens of width D, E experts, k choices. A choice that a full expert has dropped has the id E.</remarks>
internal sealed class RoutedTokens
{
    /// <param name="shapes">Of the rank.</param>
    /// <param name="random">Differs from rank to rank in its tokens; the router's weights are alike on all.</param>
    public RoutedTokens(KernelShapes shapes, RandomInputs random)
    {
        using var mode = Autograd.NoGrad();
        var moe = shapes.Model.Moe;
        using var alike = new RandomInputs(~shapes.Config.Run.Seed, shapes.Device); // of no rank's tokens
        Router = alike.Normal([moe.Experts, shapes.Width], shapes.Wide, shapes.Model.InitStd);
        Tokens = random.Normal([shapes.Tokens, shapes.Width], shapes.Type);
        Bias = Tensor.Zeros([moe.Experts], DType.Float32, shapes.Device);
        Logits = RouterProduct.Of(Tokens, Router).Contiguous();
        var routing = Models.Router.Route(Logits, Bias, 1, moe);
        (Ids, Weights) = (routing.ExpertIds.Contiguous(), routing.Weights.Contiguous());
    }

    /// <summary>[T, D] of the activations' type.</summary>
    public Tensor Tokens { get; }

    /// <summary>[E, D], wide.</summary>
    public Tensor Router { get; }

    /// <summary>[E] float32: zeros.</summary>
    public Tensor Bias { get; }

    /// <summary>[T, E], wide.</summary>
    public Tensor Logits { get; }

    /// <summary>[T, k] int64.</summary>
    public Tensor Ids { get; }

    /// <summary>[T, k], wide.</summary>
    public Tensor Weights { get; }
}
