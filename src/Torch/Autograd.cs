using System.Runtime.InteropServices;
using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>libtorch's automatic differentiation.</summary>
public static class Autograd
{
    /// <summary>Until the result is disposed, nothing that this thread computes is recorded.</summary>
    public static GradientMode NoGrad() => new(false);

    /// <summary>Until the result is disposed, what this thread computes is recorded: inside a backward, whose own work is not.</summary>
    public static GradientMode Recorded() => new(true);

    /// <summary>Accumulates the gradient of a scalar into <see cref="Tensor.Gradient"/> of every leaf that it was computed from.</summary>
    /// <param name="loss">A scalar, or any tensor where <paramref name="seed"/> is given.</param>
    /// <param name="seed">Gradient of the final quantity with respect to <paramref name="loss"/>, of its shape; left out, 1.</param>
    /// <exception cref="TorchException">libtorch refused; an exception of a managed <see cref="Function"/> arrives as itself.</exception>
    public static void Backward(Tensor loss, Tensor? seed = null) => Backward([loss], [seed]);

    /// <summary>
    /// Has <paramref name="action"/> called when a backward has computed the gradient of this tensor: whatever was computed from it is behind it by then,
    /// and the gradients of the leaves that took part in that are whole.
    /// </summary>
    /// <param name="tensor">A tensor of the graph that is no leaf.</param>
    /// <param name="action">Runs on the thread of the backward, unrecorded; what it throws goes on in the thread that called <see cref="Backward(Tensor, Tensor?)"/>.</param>
    public static unsafe void OnGradient(Tensor tensor, Action action) =>
        Abi.Check(Abi.OnGradient(tensor.LiveHandle, &Run, &Release, GCHandle.ToIntPtr(GCHandle.Alloc(action))));

    /// <summary>As <see cref="Backward(Tensor, Tensor?)"/>, from several roots at once. A <see cref="Function"/>'s backward may call it for a graph of its own.</summary>
    public static unsafe void Backward(ReadOnlySpan<Tensor> roots, ReadOnlySpan<Tensor?> seeds)
    {
        var rootHandles = stackalloc nint[roots.Length];
        var seedHandles = stackalloc nint[roots.Length];
        for (var i = 0; i < roots.Length; i++)
        {
            rootHandles[i] = roots[i].LiveHandle;
            seedHandles[i] = seeds[i]?.LiveHandle ?? 0;
        }

        var status = Abi.Backward(rootHandles, seedHandles, roots.Length);
        Function.ThrowPending();
        Abi.Check(status);
    }

    [UnmanagedCallersOnly]
    private static int Run(nint context)
    {
        try
        {
            using var mode = NoGrad();
            using var scope = new TensorScope();
            ((Action)GCHandle.FromIntPtr(context).Target!)();
            return 0;
        }
#pragma warning disable CA1031 // No exception may cross into native code; this one goes on in the thread that called Backward.
        catch (Exception e)
#pragma warning restore CA1031
        {
            Function.Fail(e);
            return 1;
        }
    }

    [UnmanagedCallersOnly]
    private static void Release(nint context) => GCHandle.FromIntPtr(context).Free();
}

/// <summary>Sets whether autograd records on this thread, and sets it back when disposed.</summary>
public readonly ref struct GradientMode : IDisposable
{
    private readonly int _before;

    internal GradientMode(bool enabled) => Abi.Check(Abi.SetGradMode(enabled ? 1 : 0, out _before));

    /// <summary>Restores the mode that was in force before.</summary>
    public void Dispose() => Abi.Check(Abi.SetGradMode(_before, out _));
}
