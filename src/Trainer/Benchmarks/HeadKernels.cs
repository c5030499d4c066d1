using Moe.Models;
using Moe.Torch;

namespace Moe.Training.Benchmarks;

/// <summary>The head with its cross-entropy, in chunks of tokens; forward makes the gradients too, which backward scales.</summary>
/// <remarks>Shapes: T tokens of width D, V classes. Logits are work space and not counted as bytes.</remarks>
/// <param name="shapes">Of the rank.</param>
/// <param name="random">Makes the inputs.</param>
internal sealed class HeadKernels(KernelShapes shapes, RandomInputs random)
{
    private const double Deviation = 0.02;

    private readonly long _classes = shapes.Model.Vocabulary;
    private readonly Tensor _targets = random.Below(shapes.Tokens, shapes.Model.Vocabulary).To(shapes.Device);

    private double HiddenBytes => shapes.Size * shapes.Tokens * shapes.Width;

    private double HeadBytes => (double)shapes.Stored.Size() * _classes * shapes.Width;

    // The gradients are made in the type in which they are added up, and rounded by backward.
    private double WideHeadBytes => shapes.WideSize * _classes * shapes.Width;

    private double Operations => 2.0 * shapes.Tokens * _classes * shapes.Width;

    /// <summary>Loss with gradients, their scaling, and the loss alone, as an evaluation takes it.</summary>
    public IEnumerable<KernelBenchmark> All()
    {
        var targets = sizeof(long) * shapes.Tokens;
        yield return Kernel("loss with gradients", KernelPass.Forward, (2 * HiddenBytes) + HeadBytes + WideHeadBytes + targets, 3 * Operations, shapes.MicroBatches, () =>
        {
            var (hidden, head) = Leaves();
            return new KernelCall(() => LinearCrossEntropy.Apply(hidden, head, _targets));
        });
        yield return Kernel("loss with gradients", KernelPass.Backward, (2 * HiddenBytes) + HeadBytes + WideHeadBytes, 0, shapes.MicroBatches, () =>
        {
            var (hidden, head) = Leaves();
            var half = Tensor.Full([], 0.5, shapes.Wide, shapes.Device);
            return RecordedCalls.Backward(() => LinearCrossEntropy.Apply(hidden, head, _targets), half, hidden, head);
        });
        yield return Kernel("loss alone", KernelPass.Forward, HiddenBytes + HeadBytes + targets, Operations, calls: 0, () =>
        {
            var (hidden, head) = (Hidden(), random.Normal([_classes, shapes.Width], shapes.Stored, Deviation));
            return new KernelCall(() => LinearCrossEntropy.Apply(hidden, head, _targets));
        });
    }

    private KernelBenchmark Kernel(string name, KernelPass pass, double bytes, double operations, double calls, Func<KernelCall> make) =>
        new(name, FormattableString.Invariant($"[{shapes.Tokens}, {shapes.Width}] x [{_classes}, {shapes.Width}]"), pass, bytes, operations, make) { CallsPerStep = calls };

    private Tensor Hidden() => random.Normal([shapes.Tokens, shapes.Width], shapes.Type);

    private (Tensor Hidden, Tensor Head) Leaves() =>
        (random.Leaf([shapes.Tokens, shapes.Width], shapes.Type), random.Leaf([_classes, shapes.Width], shapes.Stored, Deviation));
}
