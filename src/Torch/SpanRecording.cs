using System.Diagnostics;
using System.Runtime.InteropServices;
using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>Keeps the <see cref="Spans"/> of the whole process from <see cref="Begin"/> to <see cref="End"/>: on the host by its clock, on a GPU also by marks in its stream.</summary>
/// <remarks>A span of another thread counts as inside the one that the beginning thread has open: that one waits for it, as backward does.</remarks>
public sealed class SpanRecording : IDisposable
{
    private const int None = -1;

    private static int s_made;

    // The innermost open span of a thread; what another recording left there does not count.
    [ThreadStatic]
    private static SpanRecording? s_ofThread;

    [ThreadStatic]
    private static int s_open;

    private readonly Lock _gate = new();
    private readonly List<Entry> _entries = [];
    private readonly List<RecordedTransfer> _beside = [];
    private readonly List<int> _threads = [Environment.CurrentManagedThreadId];
    private readonly int _number = Interlocked.Increment(ref s_made);
    private readonly long _begin;
    private CudaEvent? _deviceBegin;
    private volatile int _openOfFirst = None;

    private SpanRecording(Device device)
    {
        if (device.IsCuda)
        {
            CudaRuntime.Synchronize(); // then the device is at the same point of time as the host
            _deviceBegin = DeviceMarks.Set();
        }

        _begin = Stopwatch.GetTimestamp();
        if (device.IsCuda)
        {
            CudaRuntime.Synchronize(); // times are told from this mark on, and only of one that was passed
        }
    }

    /// <summary>Begins to keep spans. The work of this thread is what the others' spans belong to.</summary>
    /// <param name="device">Where the thread's work runs.</param>
    /// <exception cref="InvalidOperationException">A recording is on already.</exception>
    public static SpanRecording Begin(Device device) => Spans.Recording is null
        ? Spans.Recording = new SpanRecording(device)
        : throw new InvalidOperationException("a process records once at a time");

    /// <summary>Ends it. Waits for the device.</summary>
    /// <returns>What was kept; a span that is still open ends now.</returns>
    public RecordedSpans End()
    {
        var now = Stopwatch.GetTimestamp();
        if (_deviceBegin is not null)
        {
            CudaRuntime.Synchronize();
        }

        Spans.Recording = null;
        lock (_gate)
        {
            RecordedSpan[] spans = [.. _entries.Select(entry => Recorded(entry, now))];
            Recycle();
            return new RecordedSpans(spans, [.. _beside]);
        }
    }

    /// <summary>Ends it where that was not done, and forgets what was kept.</summary>
    public void Dispose()
    {
        if (ReferenceEquals(Spans.Recording, this))
        {
            Spans.Recording = null;
        }

        lock (_gate)
        {
            Recycle();
        }
    }

    internal Span Open(string name, int? layer, SpanKind kind)
    {
        var thread = Environment.CurrentManagedThreadId;
        var outer = OpenOfThread;
        var parent = outer == None && thread != _threads[0] ? _openOfFirst : outer;
        int index;
        lock (_gate)
        {
            index = _entries.Count;
            _entries.Add(new Entry
            {
                Name = name,
                Kind = kind,
                Layer = layer ?? (parent == None ? null : _entries[parent].Layer),
                Parent = parent,
                Outer = outer,
                Thread = PlaceOf(thread),
                DeviceBegin = _deviceBegin is null ? null : DeviceMarks.Set(),
                Begin = Stopwatch.GetTimestamp(),
            });
        }

        SetOpen(index, thread);
        return new Span(this, index);
    }

    internal void Close(int index)
    {
        var end = Stopwatch.GetTimestamp();
        int outer;
        lock (_gate)
        {
            if (index >= _entries.Count)
            {
                return; // the recording was given up meanwhile
            }

            ref var entry = ref CollectionsMarshal.AsSpan(_entries)[index];
            entry.End = end;
            entry.DeviceEnd = _deviceBegin is null ? null : DeviceMarks.Set();
            outer = entry.Outer;
        }

        SetOpen(outer, Environment.CurrentManagedThreadId);
    }

    internal void AddWaiting(TimeSpan time)
    {
        var open = OpenOfThread;
        if (open != None)
        {
            lock (_gate)
            {
                CollectionsMarshal.AsSpan(_entries)[open].Waiting += time.TotalMicroseconds;
            }
        }
    }

    internal void AddBeside(string name, string purpose, int? layer, long bytes, long begun)
    {
        var end = Stopwatch.GetTimestamp();
        if (begun >= _begin)
        {
            lock (_gate)
            {
                _beside.Add(new RecordedTransfer(name, purpose, layer, bytes, SinceBegin(begun), SinceBegin(end)));
            }
        }
    }

    internal void AddBeside(string name, string purpose, int? layer, long bytes, CudaEvent begin, CudaEvent end)
    {
        if (_deviceBegin is { } zero)
        {
            var transfer = new RecordedTransfer(name, purpose, layer, bytes, zero.Until(begin).TotalMicroseconds, zero.Until(end).TotalMicroseconds);
            lock (_gate)
            {
                _beside.Add(transfer);
            }
        }
    }

    internal unsafe void Watch(nint handle)
    {
        var open = OpenOfThread;
        if (open != None && KindOf(open) != SpanKind.Phase)
        {
            Abi.Check(Abi.WatchBackward(handle, &OnBackward, ((long)_number << 32) | (uint)open));
        }
    }

    private int OpenOfThread => ReferenceEquals(s_ofThread, this) ? s_open : None;

    private SpanKind KindOf(int index)
    {
        lock (_gate)
        {
            return _entries[index].Kind;
        }
    }

    [UnmanagedCallersOnly]
    private static void OnBackward(long context, int begins)
    {
        if (Spans.Recording is { } recording && recording._number == (int)(context >> 32))
        {
            recording.Backward((int)context, begins != 0);
        }
    }

    private void Backward(int of, bool begins)
    {
        if (begins)
        {
            string name;
            int? layer;
            lock (_gate)
            {
                (name, layer) = (_entries[of].Name, _entries[of].Layer);
            }

            Open(name, layer, SpanKind.Backward);
        }
        else if (OpenOfThread is var open and not None && KindOf(open) == SpanKind.Backward)
        {
            Close(open);
        }
    }

    private void SetOpen(int index, int thread)
    {
        (s_ofThread, s_open) = (this, index);
        if (thread == _threads[0])
        {
            _openOfFirst = index;
        }
    }

    private int PlaceOf(int thread)
    {
        var place = _threads.IndexOf(thread);
        if (place < 0)
        {
            place = _threads.Count;
            _threads.Add(thread);
        }

        return place;
    }

    private RecordedSpan Recorded(in Entry entry, long now) => new(
        entry.Name,
        entry.Kind,
        entry.Layer,
        entry.Parent,
        entry.Thread,
        SinceBegin(entry.Begin),
        SinceBegin(entry.End == 0 ? now : entry.End),
        entry.Waiting,
        DeviceTime(entry.DeviceBegin),
        DeviceTime(entry.DeviceEnd));

    private double DeviceTime(CudaEvent? mark) => mark is null ? double.NaN : _deviceBegin!.Until(mark).TotalMicroseconds;

    private double SinceBegin(long timestamp) => Stopwatch.GetElapsedTime(_begin, timestamp).TotalMicroseconds;

    private void Recycle()
    {
        foreach (var entry in _entries)
        {
            DeviceMarks.Return(entry.DeviceBegin);
            DeviceMarks.Return(entry.DeviceEnd);
        }

        DeviceMarks.Return(_deviceBegin);
        _deviceBegin = null;
        _entries.Clear();
    }

    private struct Entry
    {
        public required string Name { get; init; }

        public required SpanKind Kind { get; init; }

        public int? Layer { get; init; }

        public int Parent { get; init; }

        public int Outer { get; init; } // the span around it on its own thread

        public int Thread { get; init; }

        public long Begin { get; init; }

        public long End { get; set; }

        public double Waiting { get; set; }

        public CudaEvent? DeviceBegin { get; init; }

        public CudaEvent? DeviceEnd { get; set; }
    }
}
