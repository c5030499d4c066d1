using System.Diagnostics;
using Moe.Torch;

namespace Moe.Distributed;

/// <summary>A collective under way. It keeps its tensors alive, whatever becomes of their scope, until it is done.</summary>
public sealed class Work
{
    private readonly CollectiveCall _call;
    private readonly Tensor[] _tensors;
    private Transfer? _transfer;
    private CommunicationException? _failure;

    internal Work(CollectiveCall call, Transfer transfer, Tensor[] tensors)
    {
        _call = call;
        _transfer = transfer;
        _tensors = tensors;
        call.Group.UnderWay++;
    }

    /// <summary>Whether the results are there; drives the operation on without waiting for it.</summary>
    /// <exception cref="CommunicationException">The operation failed.</exception>
    public bool IsCompleted
    {
        get
        {
            ThrowIfFailed();
            if (_transfer is null)
            {
                return true;
            }

            try
            {
                if (!_transfer.Test())
                {
                    return false;
                }
            }
            catch (TransferException e)
            {
                throw Fail(e);
            }

            Finish();
            return true;
        }
    }

    /// <summary>Returns when the results are there.</summary>
    /// <exception cref="CommunicationException">The operation failed, or did not end within the group's time-out.</exception>
    public void Wait()
    {
        ThrowIfFailed();
        if (_transfer is null)
        {
            return;
        }

        var begin = Stopwatch.GetTimestamp();
        try
        {
            _transfer.Wait(_call.Group.Timeout);
        }
        catch (TransferException e)
        {
            throw Fail(e);
        }
        finally
        {
            _call.Group.Trace.Waited(_call.Collective, Stopwatch.GetElapsedTime(begin));
        }

        Finish();
    }

    private void ThrowIfFailed()
    {
        if (_failure is not null)
        {
            throw _failure;
        }
    }

    // The tensors are not freed: the transport may still write to them.
    private CommunicationException Fail(TransferException e)
    {
        _failure = _call.Failed(e);
        _transfer = null;
        _call.Group.Abandon(_failure);
        return _failure;
    }

    private void Finish()
    {
        _transfer = null;
        _call.Group.UnderWay--;
        foreach (var tensor in _tensors)
        {
            tensor.Dispose();
        }
    }
}
