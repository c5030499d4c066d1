using Moe.Torch;

namespace Moe.Training.Benchmarks;

/// <summary>Calls of functions on autograd's graph: the forward is a call like any other, the backward needs a forward each time.</summary>
internal static class RecordedCalls
{
    /// <summary>The backward alone; its forward is made beforehand.</summary>
    /// <param name="function">The forward.</param>
    /// <param name="seed">Gradient of its result.</param>
    /// <param name="leaves">What gradients are computed of; they are taken away again.</param>
    public static KernelCall Backward(Func<Tensor> function, Tensor seed, params Tensor[] leaves)
    {
        Tensor? result = null;
        return new KernelCall(
            () =>
            {
                Autograd.Backward(result!, seed);
                result!.Dispose();
                foreach (var leaf in leaves)
                {
                    leaf.Gradient = null;
                }
            },
            () => result = function());
    }
}
