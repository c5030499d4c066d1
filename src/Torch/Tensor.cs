using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>
/// A multi-dimensional array of libtorch. Its operators are extension methods by family (<see cref="Pointwise"/>, <see cref="Shaping"/>,
/// <see cref="Reductions"/>, <see cref="LinearAlgebra"/>, ...); a name that ends in an underscore changes the tensor itself.
/// </summary>
/// <remarks>
/// A tensor belongs to the <see cref="TensorScope"/> that was open on its thread when it was made, and is freed with it; made
/// outside any scope, it is the caller's to dispose. There is no finalizer: <see cref="LiveCount"/> shows what was forgotten.
/// </remarks>
public sealed class Tensor : IDisposable
{
    private static long s_live;
    private long[]? _shape;
    private DType _dtype;
    private bool _contiguous;
    private Device _device;

    internal Tensor(nint handle)
    {
        Handle = handle;
        Interlocked.Increment(ref s_live);
        TensorScope.Current?.Add(this);
    }

    /// <summary>Tensors of this process that were made and not yet freed.</summary>
    public static long LiveCount => Interlocked.Read(ref s_live);

    /// <summary>The native tensor; 0 once freed.</summary>
    public nint Handle { get; private set; }

    /// <summary>Lengths of the dimensions; empty for a scalar. Not to be written to.</summary>
    public long[] Shape
    {
        get
        {
            Describe();
            return _shape!;
        }
    }

    /// <summary>Number of dimensions.</summary>
    public int Rank => Shape.Length;

    /// <summary>Number of elements.</summary>
    public long Count
    {
        get
        {
            var count = 1L;
            foreach (var length in Shape)
            {
                count *= length;
            }

            return count;
        }
    }

    /// <summary>Type of the elements.</summary>
    public DType DType
    {
        get
        {
            Describe();
            return _dtype;
        }
    }

    /// <summary>Whether the elements stand in memory without gaps, last dimension fastest.</summary>
    public bool IsContiguous
    {
        get
        {
            Describe();
            return _contiguous;
        }
    }

    /// <summary>Where the elements stand.</summary>
    public Device Device
    {
        get
        {
            Describe();
            return _device;
        }
    }

    /// <summary>Address of the first element, on its device; 0 for a tensor without elements.</summary>
    public nint DataPointer
    {
        get
        {
            Abi.Check(Abi.Data(LiveHandle, out var data));
            return data;
        }
    }

    /// <summary>Whether autograd records what is computed from this tensor.</summary>
    public bool RequiresGrad
    {
        get
        {
            Abi.Check(Abi.RequiresGrad(LiveHandle, out var requires));
            return requires != 0;
        }
        set => Abi.Check(Abi.SetRequiresGrad(LiveHandle, value ? 1 : 0));
    }

    /// <summary>What backward has accumulated for this leaf, as a new handle on the same storage; null before the first backward.</summary>
    public Tensor? Gradient
    {
        get
        {
            Abi.Check(Abi.Gradient(LiveHandle, out var gradient));
            return gradient == 0 ? null : new Tensor(gradient);
        }
        set => Abi.Check(Abi.SetGradient(LiveHandle, value?.LiveHandle ?? 0));
    }

    internal TensorScope? Scope { get; set; }

    internal int Slot { get; set; }

    internal nint LiveHandle => Handle != 0 ? Handle : throw new ObjectDisposedException(nameof(Tensor), "the scope of this tensor has ended");

    public static Tensor operator +(Tensor x, Tensor y) => x.Add(y);

    public static Tensor operator +(Tensor x, double y) => x.Add(y);

    public static Tensor operator -(Tensor x, Tensor y) => x.Subtract(y);

    public static Tensor operator -(Tensor x, double y) => x.Add(-y);

    public static Tensor operator -(Tensor x) => x.Negate();

    public static Tensor operator *(Tensor x, Tensor y) => x.Multiply(y);

    public static Tensor operator *(Tensor x, double y) => x.Multiply(y);

    public static Tensor operator /(Tensor x, Tensor y) => x.Divide(y);

    public static Tensor operator /(Tensor x, double y) => x.Divide(y);

    /// <summary>A tensor whose elements are not set, in host memory unless a device is named.</summary>
    public static unsafe Tensor Empty(ReadOnlySpan<long> shape, DType dtype = DType.Float32, Device device = default)
    {
        fixed (long* lengths = shape)
        {
            Abi.Check(Abi.Empty(lengths, shape.Length, (int)dtype, device.Index, out var handle));
            return new Tensor(handle);
        }
    }

    /// <summary>A tensor of zeros.</summary>
    public static Tensor Zeros(ReadOnlySpan<long> shape, DType dtype = DType.Float32, Device device = default) => Empty(shape, dtype, device).Zero_();

    /// <summary>A tensor of ones.</summary>
    public static Tensor Ones(ReadOnlySpan<long> shape, DType dtype = DType.Float32, Device device = default) => Full(shape, 1, dtype, device);

    /// <summary>A tensor whose elements are all <paramref name="value"/>.</summary>
    public static Tensor Full(ReadOnlySpan<long> shape, double value, DType dtype = DType.Float32, Device device = default) =>
        Empty(shape, dtype, device).Fill_(value);

    /// <summary>0, 1, ... <paramref name="count"/> - 1, as int64 of shape [count].</summary>
    public static Tensor Arange(long count)
    {
        var result = Empty([count], DType.Int64);
        var values = result.Span<long>();
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = i;
        }

        return result;
    }

    /// <summary>A tensor with a copy of <paramref name="values"/>, last dimension fastest.</summary>
    /// <param name="values">As many as <paramref name="shape"/> has elements.</param>
    /// <param name="shape">Left out, a vector.</param>
    /// <exception cref="ArgumentException">The number of values is not that of the shape.</exception>
    public static Tensor From<T>(ReadOnlySpan<T> values, params ReadOnlySpan<long> shape)
        where T : unmanaged
    {
        var result = Empty(shape.IsEmpty && values.Length != 1 ? [values.Length] : shape, DTypes.Of<T>());
        if (result.Count != values.Length)
        {
            var wanted = result.Count;
            result.Dispose();
            throw new ArgumentException($"{values.Length} values for a tensor of {wanted} elements", nameof(values));
        }

        values.CopyTo(result.Span<T>());
        return result;
    }

    /// <inheritdoc cref="From{T}(ReadOnlySpan{T}, ReadOnlySpan{long})"/>
    public static Tensor From<T>(T[] values, params ReadOnlySpan<long> shape)
        where T : unmanaged => From((ReadOnlySpan<T>)values, shape);

    /// <summary>A tensor on this one's device whose elements are not set; of this one's type, unless another is named.</summary>
    public Tensor NewEmpty(ReadOnlySpan<long> shape, DType? dtype = null) => Empty(shape, dtype ?? DType, Device);

    /// <summary>A tensor of zeros on this one's device; of this one's type, unless another is named.</summary>
    public Tensor NewZeros(ReadOnlySpan<long> shape, DType? dtype = null) => Zeros(shape, dtype ?? DType, Device);

    /// <summary>The tensor itself where it stands there already, else a copy there. A copy from a device waits for the device's work.</summary>
    public Tensor To(Device device) => Device == device ? this : Empty(Shape, DType, device).CopyFrom_(this);

    /// <summary>Length of one dimension; negative ones count from the end.</summary>
    public long Size(int dimension) => Shape[dimension < 0 ? Shape.Length + dimension : dimension];

    /// <summary>The elements in place, for reading and writing. The span is valid while the tensor is.</summary>
    /// <exception cref="InvalidOperationException">The elements are of another type, have gaps, or stand on a device.</exception>
    public unsafe Span<T> Span<T>()
        where T : unmanaged
    {
        if (Device.IsCuda)
        {
            throw new InvalidOperationException($"a tensor on {Device} can't be seen from the host; copy it there first");
        }

        if (DType != DTypes.Of<T>() || !IsContiguous)
        {
            throw new InvalidOperationException(
                $"a {(IsContiguous ? "contiguous" : "strided")} tensor of {DType} can't be seen as contiguous {typeof(T).Name}");
        }

        return new Span<T>((void*)DataPointer, checked((int)Count));
    }

    /// <summary>A copy of the elements, last dimension fastest. From a device, it waits for the device's work.</summary>
    public T[] ToArray<T>()
        where T : unmanaged
    {
        if (Device.IsCuda)
        {
            using var onHost = To(Device.Cpu);
            return onHost.ToArray<T>();
        }

        if (IsContiguous)
        {
            return Span<T>().ToArray();
        }

        using var packed = this.Contiguous();
        return packed.Span<T>().ToArray();
    }

    /// <summary>The one element of this tensor as a double: for losses, norms and counts. From a device, it waits for the device's work.</summary>
    /// <exception cref="InvalidOperationException">There is not exactly one element.</exception>
    public unsafe double Item()
    {
        if (Count != 1)
        {
            throw new InvalidOperationException($"a tensor of shape [{string.Join(", ", Shape)}] is not one number");
        }

        if (Device.IsCuda)
        {
            using var onHost = To(Device.Cpu);
            return onHost.Item();
        }

        var first = (void*)DataPointer;
        return DType switch
        {
            DType.Float32 => *(float*)first,
            DType.Float64 => *(double*)first,
            DType.Int64 => *(long*)first,
            DType.Int32 => *(int*)first,
            DType.UInt8 or DType.Bool => *(byte*)first,
            _ => *(BFloat16*)first,
        };
    }

    /// <summary>Another handle on the same tensor, owned by the current scope (or the caller, without one).</summary>
    public Tensor Share()
    {
        Abi.Check(Abi.Share(LiveHandle, out var shared));
        return new Tensor(shared);
    }

    /// <summary>Takes the tensor out of its scope: from here on the caller disposes it.</summary>
    /// <returns>The same tensor.</returns>
    public Tensor Detached()
    {
        Scope?.Remove(this);
        return this;
    }

    /// <summary>Frees the handle now, whatever scope it belongs to. Does nothing the second time.</summary>
    public void Dispose()
    {
        if (Handle != 0)
        {
            Scope?.Remove(this);
            Release();
        }
    }

    /// <inheritdoc/>
    public override string ToString() => Handle == 0 ? "freed tensor" : $"{DType} [{string.Join(", ", Shape)}]{(Device.IsCuda ? $" on {Device}" : "")}";

    internal void Release()
    {
        if (Handle != 0)
        {
            var handle = Handle;
            Handle = 0;
            Scope = null;
            Interlocked.Decrement(ref s_live);
            Abi.Check(Abi.Release(handle));
        }
    }

    /// <summary>Gives the native reference away and forgets it.</summary>
    internal nint Surrender()
    {
        var handle = LiveHandle;
        Scope?.Remove(this);
        Handle = 0;
        Interlocked.Decrement(ref s_live);
        return handle;
    }

    /// <summary>Gives up the elements, but stays the handle of what <see cref="Refill"/> brings back.</summary>
    internal void Vacate() => Abi.Check(Abi.Release(Surrender()));

    /// <summary>Takes the elements of another tensor of its type and shape, whose handle ends here.</summary>
    internal void Refill(Tensor elements)
    {
        Handle = elements.Surrender();
        Interlocked.Increment(ref s_live);
    }

    private unsafe void Describe()
    {
        if (_shape is not null && Handle != 0)
        {
            return;
        }

        Span<long> numbers = stackalloc long[2 * Abi.MaxRank];
        fixed (long* shape = numbers)
        {
            Abi.Check(Abi.Describe(LiveHandle, shape, shape + Abi.MaxRank, Abi.MaxRank, out var rank, out var dtype, out var device, out var contiguous));
            _shape = numbers[..rank].ToArray();
            _dtype = (DType)dtype;
            _device = new Device(device);
            _contiguous = contiguous != 0;
        }
    }
}
