namespace Moe.Torch;

/// <summary>
/// Owns every tensor that its thread makes while it is the innermost open scope, and frees them all when it is disposed:
/// a step's memory ends at a known line, never by a finalizer.
/// </summary>
/// <remarks>
/// What autograd saved for backward stays alive by the graph's own references; a scope ends only the managed ones.
/// Scopes nest, and are disposed in the reverse order of their making, on the thread that made them.
/// </remarks>
public sealed class TensorScope : IDisposable
{
    [ThreadStatic]
    private static TensorScope? s_current;

    private readonly List<Tensor> _tensors = [];
    private readonly TensorScope? _outer;
    private bool _closed;

    /// <summary>Opens a scope inside the thread's current one, if there is one.</summary>
    public TensorScope()
    {
        _outer = s_current;
        s_current = this;
    }

    internal static TensorScope? Current => s_current;

    /// <summary>Hands <paramref name="tensor"/> to the enclosing scope, or to the caller where this is the outermost one.</summary>
    /// <returns>The same tensor.</returns>
    public Tensor Keep(Tensor tensor)
    {
        if (ReferenceEquals(tensor.Scope, this))
        {
            Remove(tensor);
            _outer?.Add(tensor);
        }

        return tensor;
    }

    /// <summary>Frees the tensors that still belong to this scope.</summary>
    /// <exception cref="InvalidOperationException">An inner scope is still open, or another thread opened this one.</exception>
    public void Dispose()
    {
        if (_closed)
        {
            return;
        }

        if (!ReferenceEquals(s_current, this))
        {
            throw new InvalidOperationException("tensor scopes close in the reverse order of their opening, on the thread that opened them");
        }

        _closed = true;
        s_current = _outer;
        foreach (var tensor in _tensors)
        {
            tensor.Release();
        }
    }

    internal void Add(Tensor tensor)
    {
        tensor.Scope = this;
        tensor.Slot = _tensors.Count;
        _tensors.Add(tensor);
    }

    internal void Remove(Tensor tensor)
    {
        var last = _tensors[^1];
        _tensors[tensor.Slot] = last;
        last.Slot = tensor.Slot;
        _tensors.RemoveAt(_tensors.Count - 1);
        tensor.Scope = null;
    }
}
