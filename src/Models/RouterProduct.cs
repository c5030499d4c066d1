using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>The router's logits in float32 accuracy, by tensor cores where the rows are bfloat16 on a GPU.</summary>
/// <remarks>
/// Shapes: x [T, D], weight [E, D], logits [T, E]. The float32 weight is the sum of three bfloat16 parts to 2^-24, and the rows are bfloat16
/// exactly: three products with float32 sums have the accuracy of one in float32.
/// </remarks>
public sealed class RouterProduct : Function
{
    private Tensor? _x;
    private Tensor? _weight;

    private RouterProduct()
    {
    }

    /// <summary>x weight^T in the weight's type; as any <see cref="Projection"/> where the kernel doesn't fit.</summary>
    /// <param name="x">[T, D].</param>
    /// <param name="weight">[E, D].</param>
    public static Tensor Of(Tensor x, Tensor weight) =>
        RouterProductKernel.Fits(x, weight) ? Apply(x.Contiguous(), weight) : Projection.Apply(x.To(weight.DType), weight);

    /// <summary>The same by the kernel, on whichever device.</summary>
    /// <param name="x">[T, D] bfloat16, without gaps.</param>
    /// <param name="weight">[E, D] float32, without gaps.</param>
    public static Tensor Apply(Tensor x, Tensor weight) => new RouterProduct().Apply([x, weight])[0];

    /// <summary>The same by recorded operators.</summary>
    /// <param name="x">[T, D].</param>
    /// <param name="weight">[E, D].</param>
    public static Tensor Reference(Tensor x, Tensor weight) => x.To(weight.DType).Linear(weight);

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        (_x, _weight) = (Save(inputs[0]), Save(inputs[1]));
        return [RouterProductKernel.Forward(inputs[0], inputs[1])];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var (input, weight) = RouterProductKernel.Backward(_x!, _weight!, outputGradients[0]!.Contiguous(), NeedsGradient(0), NeedsGradient(1));
        return [input, weight];
    }
}
