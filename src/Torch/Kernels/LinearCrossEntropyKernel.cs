using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>A linear head and its cross-entropy in chunks of tokens, with the gradients beside the loss: native/kernels/linear_cross_entropy.cpp.</summary>
/// <remarks>Shapes: T tokens of width D, V classes; hidden [T, D], head [V, D] of its type, targets [T] int64. All without gaps.</remarks>
public static class LinearCrossEntropyKernel
{
    // Large enough for whole matrix products, small beside what a step needs anyway.
    private const long HostChunk = 64L << 20;
    private const long DeviceChunk = 512L << 20;

    /// <summary>The sum of -log softmax(hidden head^T)[target], a scalar of the work type, and the gradients of that sum.</summary>
    /// <param name="hidden">[T, D].</param>
    /// <param name="head">[V, D].</param>
    /// <param name="targets">[T] int64: 0 to V - 1, or -100 for a token that is not counted. Another makes the loss NaN on a GPU, and is refused on the host.</param>
    /// <param name="ofHidden">Whether the hidden states' gradient [T, D] is asked for.</param>
    /// <param name="ofHead">Whether the head's [V, D] is: it is of the work type.</param>
    /// <param name="chunkBytes">What a chunk's logits may take; null for the device's default.</param>
    /// <exception cref="TorchException">Shapes, types, devices or targets don't fit.</exception>
    public static (Tensor Loss, Tensor? Hidden, Tensor? Head) Forward(
        Tensor hidden, Tensor head, Tensor targets, bool ofHidden, bool ofHead, long? chunkBytes = null)
    {
        var work = hidden.DType.Work();
        var loss = hidden.NewEmpty([], work);
        var (hiddenGradient, headGradient) = (ofHidden ? hidden.NewEmpty(hidden.Shape) : null, ofHead ? head.NewEmpty(head.Shape, work) : null);
        Operator.CountCall();
        Abi.Check(Abi.LinearCrossEntropy(
            hidden.LiveHandle,
            head.LiveHandle,
            targets.LiveHandle,
            chunkBytes ?? (hidden.Device.IsCuda ? DeviceChunk : HostChunk),
            loss.LiveHandle,
            hiddenGradient?.LiveHandle ?? 0,
            headGradient?.LiveHandle ?? 0));
        return (loss, hiddenGradient, headGradient);
    }

    /// <summary>x times a factor that the host need not know: in place, or as a new tensor of another type.</summary>
    /// <param name="x">Floating.</param>
    /// <param name="factor">A scalar of the work type, where x stands.</param>
    /// <param name="dtype">That of x, or BFloat16 beside Float32.</param>
    /// <returns>x itself where it has the type.</returns>
    /// <exception cref="TorchException">Types or devices don't fit.</exception>
    public static Tensor Scale(Tensor x, Tensor factor, DType dtype)
    {
        var result = x.DType == dtype ? x : x.NewEmpty(x.Shape, dtype);
        Operator.CountCall();
        Abi.Check(Abi.Scale(x.LiveHandle, factor.LiveHandle, result.LiveHandle));
        return result;
    }
}
