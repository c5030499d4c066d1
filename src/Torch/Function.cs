using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>An operation with a backward of its own, both written in managed code. One instance is one application.</summary>
/// <remarks>
/// Backward may run on another thread than forward (on a GPU it does), hence nothing here rests on the thread: saved tensors
/// belong to the graph's node and are freed with it.
/// </remarks>
public abstract class Function
{
    // Set by a backward that threw, taken by the thread that had called Autograd.Backward. A process runs one backward at a time.
    private static ExceptionDispatchInfo? s_pending;

    private readonly List<Tensor> _saved = [];
    private HostStore.Parked? _parked;
    private bool[] _needsGradient = [];
    private bool _recording;

    /// <summary>Runs <see cref="Forward"/> unrecorded and, where a gradient is asked for, makes its outputs part of the graph.</summary>
    /// <returns>What <see cref="Forward"/> returned.</returns>
    /// <exception cref="InvalidOperationException">This instance was applied before.</exception>
    public Tensor[] Apply(params Tensor[] inputs)
    {
        if (_needsGradient.Length > 0)
        {
            throw new InvalidOperationException($"an instance of {GetType().Name} stands for one application");
        }

        _needsGradient = Array.ConvertAll(inputs, input => input.RequiresGrad);
        Abi.Check(Abi.SetGradMode(0, out var enabled));
        Tensor[] outputs;
        try
        {
            _recording = enabled != 0 && (TrainsWithin || Array.Exists(_needsGradient, needs => needs));
            outputs = Forward(inputs);
        }
        catch
        {
            Free();
            throw;
        }
        finally
        {
            Abi.Check(Abi.SetGradMode(enabled, out _));
        }

        if (_recording)
        {
            Attach(inputs, outputs);
        }

        return outputs;
    }

    internal static void Fail(Exception exception) => s_pending = ExceptionDispatchInfo.Capture(exception);

    internal static void ThrowPending() => Interlocked.Exchange(ref s_pending, null)?.Throw();

    /// <summary>Whether backward gives gradients to tensors that are no inputs, so that it is to run even where no input asks for one.</summary>
    protected virtual bool TrainsWithin => false;

    /// <summary>Computes the outputs; recording is off. An output must be a new tensor, not an input or a view of one.</summary>
    protected abstract Tensor[] Forward(Tensor[] inputs);

    /// <summary>Gradients of the inputs from those of the outputs; recording is off, and a scope of its own is open.</summary>
    /// <param name="outputGradients">One an output; null where nothing depended on it.</param>
    /// <returns>One an input; null where it needs none.</returns>
    protected abstract Tensor?[] Backward(Tensor?[] outputGradients);

    /// <summary>A handle on <paramref name="tensor"/> that lives as long as the graph needs it, for use in <see cref="Backward"/>.</summary>
    protected Tensor Save(Tensor tensor)
    {
        if (!_recording)
        {
            return tensor;
        }

        var saved = tensor.Detach().Detached(); // without history, so that saving an output makes no cycle
        _saved.Add(saved);
        return saved;
    }

    /// <summary>The same, but what is saved waits in host memory from now until this function's backward, where a store is given.</summary>
    /// <param name="tensor">Without gaps; memory that nothing else keeps for backward.</param>
    /// <param name="store">Null to leave it where it is.</param>
    protected Tensor Save(Tensor tensor, HostStore? store)
    {
        var saved = Save(tensor);
        if (_recording && store is not null)
        {
            (_parked ??= store.Open()).Add(saved);
        }

        return saved;
    }

    /// <summary>Whether a backward may come.</summary>
    private protected bool IsRecording => _recording;

    /// <summary>Whether the input at this place takes part in the graph, forward or backward: nothing does where nothing is recorded.</summary>
    protected bool NeedsGradient(int input) => _recording && _needsGradient[input];

    [UnmanagedCallersOnly]
    private static unsafe int OnBackward(nint context, nint* outputGradients, int outputs, nint* inputGradients, int inputs)
    {
        try
        {
            var function = (Function)GCHandle.FromIntPtr(context).Target!;
            function._parked?.Return();
            using var scope = new TensorScope();
            using var mode = Autograd.NoGrad();
            var arriving = new Tensor?[outputs];
            for (var i = 0; i < outputs; i++)
            {
                if (outputGradients[i] != 0)
                {
                    Abi.Check(Abi.Share(outputGradients[i], out var shared));
                    arriving[i] = new Tensor(shared);
                }
            }

            var leaving = function.Backward(arriving);
            for (var i = 0; i < inputs; i++)
            {
                // A gradient may be handed through or given twice: each place gets a reference of its own.
                if (function._needsGradient[i] && leaving[i] is { } gradient)
                {
                    Abi.Check(Abi.Share(gradient.LiveHandle, out inputGradients[i]));
                }
            }

            return 0;
        }
#pragma warning disable CA1031 // No exception may cross into native code; this one goes on in the thread that called Autograd.Backward.
        catch (Exception e)
#pragma warning restore CA1031
        {
            Fail(e);
            return 1;
        }
    }

    // As soon as this node's backward has run: the memory of a pass shrinks while its backward goes on.
    [UnmanagedCallersOnly]
    private static void OnReleaseSaved(nint context) => ((Function)GCHandle.FromIntPtr(context).Target!).Free();

    [UnmanagedCallersOnly]
    private static void OnRelease(nint context)
    {
        var handle = GCHandle.FromIntPtr(context);
        ((Function)handle.Target!).Free();
        handle.Free();
    }

    private unsafe void Attach(Tensor[] inputs, Tensor[] outputs)
    {
        var inputHandles = stackalloc nint[inputs.Length];
        var outputHandles = stackalloc nint[outputs.Length];
        for (var i = 0; i < inputs.Length; i++)
        {
            inputHandles[i] = inputs[i].LiveHandle;
        }

        for (var i = 0; i < outputs.Length; i++)
        {
            outputHandles[i] = outputs[i].LiveHandle;
        }

        var callbacks = new NodeCallbacks { Backward = &OnBackward, ReleaseSaved = &OnReleaseSaved, Release = &OnRelease };
        var context = GCHandle.ToIntPtr(GCHandle.Alloc(this));
        Abi.Check(Abi.AttachBackward(inputHandles, inputs.Length, outputHandles, outputs.Length, callbacks, context));
        Spans.Watch(outputs[0].LiveHandle);
    }

    private void Free()
    {
        _parked?.Dispose();
        _parked = null;
        foreach (var tensor in _saved)
        {
            tensor.Dispose();
        }

        _saved.Clear();
    }
}
