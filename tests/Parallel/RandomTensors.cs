using System.Runtime.InteropServices;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>Tensors with fresh contents, and their bytes.</summary>
internal static class RandomTensors
{
    public static readonly DType[] AllTypes =
        [DType.UInt8, DType.Bool, DType.BFloat16, DType.Int32, DType.Int64, DType.Float32, DType.Float64];

    public static readonly DType[] ReducibleTypes = [DType.Int32, DType.Int64, DType.Float32, DType.Float64];

    /// <summary>Where this process makes them: the rank's GPU under NCCL, else the host.</summary>
    public static Device Device { get; set; }

    /// <summary>Any bits for types that are only moved; numbers for types that are reduced.</summary>
    public static Tensor Random(Random random, DType dtype, params long[] shape)
    {
        var tensor = Tensor.Empty(shape, dtype);
        switch (dtype)
        {
            case DType.Int32:
                Fill(tensor.Span<int>(), () => random.Next(-1000, 1000));
                break;
            case DType.Int64:
                Fill(tensor.Span<long>(), () => random.NextInt64(-1L << 40, 1L << 40));
                break;
            case DType.Float32:
                Fill(tensor.Span<float>(), () => (float)((random.NextDouble() * 2) - 1));
                break;
            case DType.Float64:
                Fill(tensor.Span<double>(), () => (random.NextDouble() * 2) - 1);
                break;
            default:
                random.NextBytes(Bytes(tensor));
                break;
        }

        return tensor.Here();
    }

    /// <summary>A tensor whose content shows where nothing was written.</summary>
    public static Tensor Poisoned(DType dtype, params long[] shape)
    {
        var tensor = Tensor.Empty(shape, dtype);
        Bytes(tensor).Fill(0xA5);
        return tensor.Here();
    }

    /// <summary>The same tensor on <see cref="Device"/>; it takes the place of this one.</summary>
    public static Tensor Here(this Tensor tensor)
    {
        if (tensor.Device == Device)
        {
            return tensor;
        }

        var placed = tensor.To(Device);
        tensor.Dispose();
        return placed;
    }

    /// <summary>A tensor's memory on the host; of one on a device a copy.</summary>
    public static unsafe Span<byte> Bytes(Tensor tensor)
    {
        if (tensor.Device.IsCuda)
        {
            using var onHost = tensor.To(Moe.Torch.Device.Cpu);
            return Bytes(onHost).ToArray();
        }

        return new((void*)tensor.DataPointer, checked((int)(tensor.Count * tensor.DType.Size())));
    }

    public static void AssertSameBits(Tensor actual, ReadOnlySpan<byte> expected, string what)
    {
        if (!Bytes(actual).SequenceEqual(expected))
        {
            var at = Bytes(actual).CommonPrefixLength(expected);
            Assert.Fail($"{what}: {actual} differs from byte {at} of {expected.Length} on");
        }
    }

    public static byte[] Joined(IEnumerable<byte[]> parts) => [.. parts.SelectMany(part => part)];

    /// <summary>The reduction of one element a rank, in the order of the ranks and in the element's own type.</summary>
    public static byte[] Reduced(Tensor[] byRank, Moe.Distributed.ReduceOperation operation) => byRank[0].DType switch
    {
        DType.Int32 => Reduced<int>(byRank, operation),
        DType.Int64 => Reduced<long>(byRank, operation),
        DType.Float32 => Reduced<float>(byRank, operation),
        _ => Reduced<double>(byRank, operation),
    };

    private static byte[] Reduced<T>(Tensor[] byRank, Moe.Distributed.ReduceOperation operation)
        where T : unmanaged, System.Numerics.INumber<T>
    {
        var result = byRank[0].ToArray<T>();
        foreach (var tensor in byRank.Skip(1))
        {
            var values = tensor.ToArray<T>();
            for (var i = 0; i < result.Length; i++)
            {
                result[i] = operation switch
                {
                    Moe.Distributed.ReduceOperation.Max => T.Max(result[i], values[i]),
                    Moe.Distributed.ReduceOperation.Min => T.Min(result[i], values[i]),
                    _ => result[i] + values[i],
                };
            }
        }

        return MemoryMarshal.AsBytes<T>(result).ToArray();
    }

    private static void Fill<T>(Span<T> values, Func<T> next)
    {
        foreach (ref var value in values)
        {
            value = next();
        }
    }
}
