using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>A linear head and the sum of its cross-entropy, without the logits of all tokens at once.</summary>
/// <remarks>
/// Shapes: T tokens of width D, V classes; hidden [T, D], head [V, D], targets [T]. The loss is linear in what arrives in backward, hence
/// forward makes both gradients chunk by chunk, where they are asked for, and backward scales them. The head is rounded to the hidden
/// states' type for its products; its gradient comes in its own type, without that rounding. The loss is a scalar in float32, or in
/// float64 for float64 hidden states.
/// </remarks>
public sealed class LinearCrossEntropy : Function
{
    private readonly Tensor _targets;
    private readonly long? _chunkBytes;
    private Tensor? _hiddenGradient;
    private Tensor? _headGradient;
    private DType _headType;

    private LinearCrossEntropy(Tensor targets, long? chunkBytes) => (_targets, _chunkBytes) = (targets, chunkBytes);

    /// <summary>The sum over tokens of -log softmax(hidden head^T)[target].</summary>
    /// <param name="hidden">[T, D], without gaps.</param>
    /// <param name="head">[V, D], of hidden's type or a wider one.</param>
    /// <param name="targets">[T] int64: 0 to V - 1, or -100 for a token that is not counted.</param>
    /// <param name="chunkBytes">What the logits of a chunk may take; null for 64 MiB in host memory, 512 MiB on a GPU.</param>
    public static Tensor Apply(Tensor hidden, Tensor head, Tensor targets, long? chunkBytes = null) =>
        new LinearCrossEntropy(targets, chunkBytes).Apply(hidden, head)[0];

    /// <summary>The same by recorded operators, with all logits: the oracle of the tests.</summary>
    public static Tensor Reference(Tensor hidden, Tensor head, Tensor targets) =>
        hidden.Linear(head.To(hidden.DType)).To(hidden.DType.Work()).CrossEntropySum(targets);

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        using var scope = new TensorScope();
        var (hidden, head) = (inputs[0], inputs[1].To(inputs[0].DType));
        _headType = inputs[1].DType;
        var (loss, hiddenGradient, headGradient) = LinearCrossEntropyKernel.Forward(
            hidden, head, _targets.Contiguous(), NeedsGradient(0), NeedsGradient(1), _chunkBytes);
        _hiddenGradient = hiddenGradient is null ? null : Save(hiddenGradient);
        _headGradient = headGradient is null ? null : Save(headGradient);
        return [scope.Keep(loss)];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var arriving = outputGradients[0]!;
        return
        [
            _hiddenGradient is { } hidden ? LinearCrossEntropyKernel.Scale(hidden, arriving, hidden.DType) : null,
            _headGradient is { } head ? LinearCrossEntropyKernel.Scale(head, arriving, _headType) : null,
        ];
    }
}
