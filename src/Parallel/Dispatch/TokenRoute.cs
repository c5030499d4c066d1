using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// The way of some tokens to the ranks of their experts and back, in steps that a caller lays over its own work: each exchange is started by one call and waited for
/// by another. Nothing is recorded; the steps of a backward are the adjoints of those of the forward.
/// </summary>
/// <remarks>
/// Shapes: T tokens, k slots, D width; n rows arrive with R choices for this rank's experts. All ranks of the group make the same calls in the same order, whatever
/// they have to send. What is given must be without gaps.
/// </remarks>
public abstract class TokenRoute
{
    /// <summary>First of the tokens among those that were planned together.</summary>
    public required long FirstToken { get; init; }

    /// <summary>T.</summary>
    public required long Tokens { get; init; }

    /// <summary>Choices of these tokens, over all ranks: what arrives under an even load.</summary>
    public required long LeavingChoices { get; init; }

    /// <summary>Rows that come to this rank to be passed on; 0 where every rank sends straight to every other one.</summary>
    public long PassingRows { get; init; }

    /// <summary>n.</summary>
    public required long ArrivingRows { get; init; }

    /// <summary>R.</summary>
    public required long ArrivingChoices { get; init; }

    /// <summary>The same on handles that live as long as a graph needs them.</summary>
    /// <param name="save">Of the function whose backward goes this way.</param>
    public abstract TokenRoute Saved(Func<Tensor, Tensor> save);

    /// <summary>Sends the tokens out. They arrive as packed rows [n, stride], by source rank (<see cref="Moe.Torch.Kernels.PackedRows"/>).</summary>
    /// <param name="tokens">[T, D].</param>
    /// <param name="weights">[T, k], float32, or float64 beside float64 tokens.</param>
    public abstract RowsUnderWay Send(Tensor tokens, Tensor weights);

    /// <summary>Sends back what the experts made of the arrived rows.</summary>
    /// <param name="sums">[n, D].</param>
    public abstract RowsUnderWay Return(Tensor sums);

    /// <summary>Adds up what came back: first over ranks that stand near each other, then over the others, in their order.</summary>
    /// <param name="returned">What <see cref="Return"/> brought.</param>
    /// <param name="added">[T, D], added last; null for nothing.</param>
    /// <param name="tokens">[T, D] to write to.</param>
    public abstract void SumInto(Tensor returned, Tensor? added, Tensor tokens);

    /// <summary>Backward of <see cref="Return"/> and <see cref="SumInto"/>: [T, D] -> [n, D].</summary>
    /// <param name="gradients">[T, D].</param>
    public abstract RowsUnderWay SendGradients(Tensor gradients);

    /// <summary>Backward of <see cref="Send"/>.</summary>
    /// <param name="packed">Gradients of the arrived rows and their weights, [n, stride] without ids.</param>
    /// <param name="width">D.</param>
    public abstract RowsUnderWay ReturnGradients(Tensor packed, long width);

    /// <summary>The tokens' gradients from what <see cref="ReturnGradients"/> brought.</summary>
    /// <param name="returned">Packed rows.</param>
    /// <param name="added">[T, D], added last; null for nothing.</param>
    /// <param name="tokens">[T, D] to write to.</param>
    public abstract void SumGradientsInto(Tensor returned, Tensor? added, Tensor tokens);

    /// <summary>The weights' gradients from what <see cref="ReturnGradients"/> brought; 0 where a choice was dropped.</summary>
    /// <param name="returned">Packed rows.</param>
    /// <param name="width">D.</param>
    /// <param name="weights">[T, k] to write to, of the type that was sent.</param>
    public abstract void WeightGradientsInto(Tensor returned, long width, Tensor weights);
}
