using System.Diagnostics;
using Moe.Torch;

namespace Moe.Distributed;

/// <summary>A collective under way. It keeps its tensors alive, whatever becomes of their scope, until it is done.</summary>
public sealed class Work
{
    private readonly CollectiveCall _call;
    private readonly Tensor[] _tensors;
    private readonly long _begun; // 0 where nobody wants to know
    private Transfer? _transfer;
    private CommunicationException? _failure;

    internal Work(CollectiveCall call, Transfer transfer, Tensor[] tensors)
    {
        _call = call;
        _transfer = transfer;
        _tensors = tensors;
        _begun = Spans.IsOn && !transfer.IsTimedByDevice ? Stopwatch.GetTimestamp() : 0;
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

    /// <summary>
    /// Returns when what this thread does next with the tensors finds the results. Where the transport runs on the tensors' device, that device waits and
    /// the host goes on; a failure then shows at the next operation of a group, or where the host waits for a transfer.
    /// </summary>
    /// <exception cref="CommunicationException">The operation failed, or did not end within the group's time-out.</exception>
    public void Wait() => Await((transfer, timeout) => transfer.Wait(timeout));

    /// <summary>Returns when the results are there, and the host may read them.</summary>
    /// <exception cref="CommunicationException">The operation failed, or did not end within the group's time-out.</exception>
    public void WaitOnHost() => Await((transfer, timeout) => transfer.WaitOnHost(timeout));

    private void Await(Action<Transfer, TimeSpan> wait)
    {
        ThrowIfFailed();
        if (_transfer is null)
        {
            return;
        }

        var begin = Stopwatch.GetTimestamp();
        try
        {
            wait(_transfer, _call.Group.Timeout);
        }
        catch (TransferException e)
        {
            throw Fail(e);
        }
        finally
        {
            var waited = Stopwatch.GetElapsedTime(begin);
            _call.Group.Trace.Waited(_call.Collective, waited);
            Spans.AddWaiting(waited);
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
        if (_begun != 0)
        {
            Spans.AddBeside(_call.Operation, _call.Phase, _call.Layer, _call.Bytes, _begun);
        }

        _call.Group.UnderWay--;
        foreach (var tensor in _tensors)
        {
            tensor.Dispose();
        }
    }
}
