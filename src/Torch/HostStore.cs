using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>
/// Host memory in which what functions keep for backward waits for it, copied out and back on a stream of its own while the device computes:
/// out as soon as it is kept, back while the backward of what was kept after it runs.
/// </summary>
/// <remarks>
/// Functions come back in the reverse order in which they were kept. At most <see cref="Resident"/> of them are in the device's memory at a time, and the
/// one whose copy is awaited is always the oldest: where the link is slower than the work, the work waits. One stream copies in program
/// order, hence a buffer may be given on as soon as its copy is queued. Tensors of the host are stored as well, for tests of the order.
/// </remarks>
/// <param name="device">Of the tensors.</param>
public sealed class HostStore(Device device) : IDisposable
{
    /// <summary>Functions whose tensors are on the device at a time: two on their way out, or one in backward and the next two on their way back.</summary>
    public const int Resident = 3;

    private readonly Device _device = device;
    private readonly CudaStream? _stream = device.IsCuda ? new CudaStream() : null;
    private readonly List<Parked> _open = []; // the oldest first
    private readonly List<HostBuffer> _idle = [];
    private long _inUse; // bytes of the buffers that are rented

    /// <summary>Bytes that are in host memory alone.</summary>
    public long Bytes => _open.Sum(parked => parked.BytesAway);

    /// <summary>Frees the buffers. What is still stored is lost.</summary>
    public void Dispose()
    {
        foreach (var parked in _open.ToArray())
        {
            parked.Dispose();
        }

        foreach (var buffer in _idle)
        {
            buffer.Dispose();
        }

        _idle.Clear();
        _stream?.Dispose();
    }

    /// <summary>A place for what one function keeps.</summary>
    internal Parked Open()
    {
        for (var i = 0; i < _open.Count - 1; i++)
        {
            _open[i].Leave();
        }

        var parked = new Parked(this);
        _open.Add(parked);
        return parked;
    }

    // Steps of an eighth of the next lower power of two: sizes that differ a little from step to step share their buffers.
    private HostBuffer Rent(long bytes)
    {
        var step = Math.Max(4096, (long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)bytes) / 16);
        var wanted = (bytes + step - 1) / step * step;
        if (_idle.Where(buffer => buffer.Bytes >= wanted && buffer.Bytes <= 2 * wanted).MinBy(buffer => buffer.Bytes) is not { } found)
        {
            FreeIdle();
            found = new HostBuffer(wanted, pinned: _stream is not null);
        }

        _idle.Remove(found);
        _inUse += found.Bytes;
        return found;
    }

    // Sizes drift with the routing: what no size asks for any more does not stay.
    private void FreeIdle()
    {
        if (_idle.Sum(buffer => buffer.Bytes) > _inUse)
        {
            if (_stream is not null)
            {
                CudaRuntime.Synchronize(); // copies out of them may be under way
            }

            _idle.ForEach(buffer => buffer.Dispose());
            _idle.Clear();
        }
    }

    private unsafe void Copy(nint from, nint to, long bytes)
    {
        if (_stream is null)
        {
            Buffer.MemoryCopy((void*)from, (void*)to, bytes, bytes);
        }
        else
        {
            Abi.Check(Abi.CudaCopy(_stream.Handle, to, from, bytes));
        }
    }

    /// <summary>What one function keeps.</summary>
    internal sealed class Parked : IDisposable
    {
        private readonly HostStore _store;
        private readonly List<Item> _items = [];
        private readonly CudaEvent? _computed; // the device's work up to a copy
        private readonly CudaEvent? _copied;
        private bool _isAway;

        public Parked(HostStore store)
        {
            _store = store;
            (_computed, _copied) = store._stream is null ? (null, null) : (new CudaEvent(), new CudaEvent());
        }

        public long BytesAway => _isAway ? _items.Sum(item => item.Bytes) : 0;

        /// <summary>Begins to copy a tensor out; it may be read as before.</summary>
        /// <param name="tensor">Without gaps; lives as long as this.</param>
        public void Add(Tensor tensor)
        {
            if (!tensor.IsContiguous)
            {
                throw new ArgumentException($"a {tensor} with gaps can't be moved as one piece of memory", nameof(tensor));
            }

            if (tensor.Count == 0)
            {
                return;
            }

            AwaitWork();
            var bytes = tensor.Count * tensor.DType.Size();
            var item = new Item(tensor, tensor.Shape, tensor.DType, bytes, _store.Rent(bytes));
            _items.Add(item);
            _store.Copy(tensor.DataPointer, item.Buffer.Address, bytes);
            MarkCopies();
        }

        /// <summary>Frees the device's memory once the copy is made; the device waits for it, the host does not.</summary>
        public void Leave()
        {
            if (_isAway || _items.Count == 0)
            {
                return;
            }

            _copied?.Await();
            _items.ForEach(item => item.Tensor.Vacate());

            _isAway = true;
        }

        /// <summary>Has the tensors as they were, for work that is queued from now on, and the next ones come.</summary>
        public void Return()
        {
            BringBack();
            _copied?.Await();
            var next = _store._open.IndexOf(this) - 1;
            for (var i = next; i > next - (Resident - 1) && i >= 0; i--)
            {
                _store._open[i].BringBack();
            }
        }

        /// <summary>Gives the buffers back. The tensors, where they are, may be freed from now on.</summary>
        public void Dispose()
        {
            if (!_store._open.Remove(this))
            {
                return;
            }

            _copied?.Await();
            _store._idle.AddRange(_items.Select(item => item.Buffer));
            _store._inUse -= _items.Sum(item => item.Buffer.Bytes);
            _items.Clear();
            _computed?.Dispose();
            _copied?.Dispose();
        }

        private void BringBack()
        {
            if (!_isAway)
            {
                return;
            }

            using var scope = new TensorScope();
            var places = _items.ConvertAll(item => Tensor.Empty(item.Shape, item.Type, _store._device));
            AwaitWork(); // memory that the device's work may have been using up to here
            for (var i = 0; i < places.Count; i++)
            {
                _store.Copy(_items[i].Buffer.Address, places[i].DataPointer, _items[i].Bytes);
                _items[i].Tensor.Refill(places[i]);
            }

            MarkCopies();
            _isAway = false;
        }

        // The device's work so far comes before the copies that follow.
        private void AwaitWork()
        {
            if (_store._stream is { } stream)
            {
                _computed!.Record();
                _computed.AwaitOn(stream);
            }
        }

        private void MarkCopies()
        {
            if (_store._stream is { } stream)
            {
                _copied!.RecordOn(stream);
            }
        }

        private sealed record Item(Tensor Tensor, long[] Shape, DType Type, long Bytes, HostBuffer Buffer);
    }
}
