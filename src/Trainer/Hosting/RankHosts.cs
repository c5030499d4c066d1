using System.Text;
using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training.Hosting;

/// <summary>The machines of a run.</summary>
internal static class RankHosts
{
    // Bytes of a host name that are told; POSIX's HOST_NAME_MAX.
    private const int NameLength = 64;

    /// <summary>The name of each rank's machine, by rank. Every rank calls this at the same time.</summary>
    public static IReadOnlyList<string> Gather(ProcessGroup world)
    {
        using var scope = new TensorScope();
        var own = new byte[NameLength];
        Encoding.UTF8.GetEncoder().Convert(Environment.MachineName, own, flush: true, out _, out _, out _);
        var all = Tensor.Zeros([world.Size, NameLength / sizeof(long)], DType.Int64);
        world.AllGatherAsync(all, Tensor.From(System.Runtime.InteropServices.MemoryMarshal.Cast<byte, long>(own).ToArray(), 1, NameLength / sizeof(long))).Wait();
        var bytes = System.Runtime.InteropServices.MemoryMarshal.AsBytes(all.ToArray<long>().AsSpan());
        var names = new string[world.Size];
        for (var rank = 0; rank < names.Length; rank++)
        {
            names[rank] = Encoding.UTF8.GetString(bytes.Slice(rank * NameLength, NameLength)).TrimEnd('\0');
        }

        return names;
    }
}
