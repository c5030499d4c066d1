using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Exchanges of byte strings of any length: manifests, reports and other small texts that are no tensors.</summary>
public static class ByteGathering
{
    /// <summary>Every member gives a byte string and gets all of them. Every member calls this.</summary>
    /// <param name="group">Who takes part.</param>
    /// <param name="bytes">This member's; may be empty.</param>
    /// <returns>One a member, by rank.</returns>
    public static byte[][] GatherBytes(this ProcessGroup group, byte[] bytes)
    {
        using var scope = new TensorScope();
        var lengths = Tensor.Empty([group.Size], DType.Int64);
        group.AllGather(lengths, Tensor.From([(long)bytes.Length]).View(1));
        var longest = lengths.ToArray<long>().Max();
        var padded = Tensor.Zeros([longest], DType.UInt8);
        bytes.CopyTo(padded.Span<byte>());
        var all = Tensor.Empty([group.Size * longest], DType.UInt8);
        group.AllGather(all, padded);
        var result = new byte[group.Size][];
        for (var rank = 0; rank < result.Length; rank++)
        {
            result[rank] = all.Span<byte>().Slice(checked((int)(rank * longest)), (int)lengths.Span<long>()[rank]).ToArray();
        }

        return result;
    }
}
