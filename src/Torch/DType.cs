namespace Moe.Torch;

/// <summary>The element types that this project stores and computes in, under libtorch's own numbers.</summary>
public enum DType : sbyte
{
    UInt8 = 0,
    Int32 = 3,
    Int64 = 4,
    Float32 = 6,
    Float64 = 7,
    Bool = 11,
    BFloat16 = 15,
}

/// <summary>Facts about element types.</summary>
public static class DTypes
{
    /// <summary>Bytes of one element.</summary>
    public static int Size(this DType dtype) => dtype switch
    {
        DType.UInt8 or DType.Bool => 1,
        DType.BFloat16 => 2,
        DType.Int32 or DType.Float32 => 4,
        DType.Int64 or DType.Float64 => 8,
        _ => throw new ArgumentOutOfRangeException(nameof(dtype), dtype, "an element type that this project does not use"),
    };

    /// <summary>Whether autograd can differentiate through elements of this type.</summary>
    public static bool IsFloatingPoint(this DType dtype) => dtype is DType.Float32 or DType.Float64 or DType.BFloat16;

    /// <summary>The element type that the managed type <typeparamref name="T"/> is laid out as.</summary>
    /// <exception cref="ArgumentException">No element type has the layout of <typeparamref name="T"/>.</exception>
    public static DType Of<T>()
        where T : unmanaged => default(T) switch
        {
            float => DType.Float32,
            double => DType.Float64,
            long => DType.Int64,
            int => DType.Int32,
            byte => DType.UInt8,
            bool => DType.Bool,
            BFloat16 => DType.BFloat16,
            _ => throw new ArgumentException($"no tensor has elements of type {typeof(T)}"),
        };
}
