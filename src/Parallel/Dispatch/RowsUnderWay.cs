using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Rows that a <see cref="TokenRoute"/> has sent: over one exchange, or over two of which the second begins when the first is done.</summary>
public sealed class RowsUnderWay
{
    private Tensor _rows;
    private Work _work;
    private Func<Tensor, (Tensor Rows, Work Work)>? _next;

    internal RowsUnderWay((Tensor Rows, Work Work) started, Func<Tensor, (Tensor Rows, Work Work)>? next = null) =>
        (_rows, _work, _next) = (started.Rows.Detached(), started.Work, next);

    /// <summary>
    /// Begins the second exchange, where there is one that has not begun, once the first is done. Where several are under way, every rank calls this, and the methods
    /// that start one, in the same order.
    /// </summary>
    /// <exception cref="CommunicationException">An exchange failed.</exception>
    public void Continue()
    {
        if (_next is { } next)
        {
            _next = null;
            _work.Wait();
            var first = _rows;
            var second = next(first);
            (_rows, _work) = (second.Rows.Detached(), second.Work);
            first.Dispose();
        }
    }

    /// <summary>The rows, when all exchanges are done; they belong to no scope, and the caller frees them.</summary>
    /// <exception cref="CommunicationException">An exchange failed.</exception>
    public Tensor Await()
    {
        Continue();
        _work.Wait();
        return _rows;
    }
}
