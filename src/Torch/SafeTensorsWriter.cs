using System.Security.Cryptography;

namespace Moe.Torch;

/// <summary>Writes safetensors files: the same tensors and metadata always give the same bytes.</summary>
/// <remarks>
/// Tensors stand in the order of the reference implementation, whatever order they come in: I64, F64, F32, I32, BF16, U8, BOOL,
/// each type by name (UTF-8). Metadata is written by name too.
/// </remarks>
public static class SafeTensorsWriter
{
    // Long enough for the disk, short enough that the hash finds the bytes in the cache.
    private const int ChunkLength = 1 << 20;

    /// <summary>Writes a file beside <paramref name="path"/>, syncs it and renames it: the path has the old content or the whole new one.</summary>
    /// <param name="path">Replaced where it exists; its directory must exist.</param>
    /// <param name="tensors">
    /// Keys and values. Values with gaps are packed one at a time as they are written. They must not change meanwhile.
    /// </param>
    /// <param name="metadata">Free text, kept with the file.</param>
    /// <returns>The SHA-256 of the whole file, in lower-case hexadecimal digits.</returns>
    /// <exception cref="ArgumentException">A key occurs twice, is <c>__metadata__</c>, or is not Unicode.</exception>
    /// <exception cref="IOException">The file cannot be written; nothing is left of it.</exception>
    public static string Write(
        string path,
        IEnumerable<(string Key, Tensor Value)> tensors,
        IReadOnlyDictionary<string, string>? metadata = null)
    {
        var sorted = tensors
            .OrderByDescending(t => SafeTensorsTypes.WriteOrder(t.Value.DType))
            .ThenBy(t => SafeTensorsHeader.Utf8(t.Key), SafeTensorsHeader.Utf8Order)
            .ToList();
        var header = new SafeTensorsHeader(Layout(sorted), metadata ?? new Dictionary<string, string>()).ToBytes();

        var partial = $"{path}.{Path.GetRandomFileName()}.partial";
        try
        {
            var digest = WritePartial(partial, header, sorted);
            File.Move(partial, path, overwrite: true);
            return digest;
        }
        catch
        {
            File.Delete(partial);
            throw;
        }
    }

    private static List<SafeTensorsEntry> Layout(List<(string Key, Tensor Value)> sorted)
    {
        var keys = new HashSet<string>();
        var entries = new List<SafeTensorsEntry>(sorted.Count);
        var offset = 0L;
        foreach (var (key, value) in sorted)
        {
            if (key == SafeTensorsHeader.MetadataKey || !keys.Add(key))
            {
                throw new ArgumentException($"tensor key '{key}' {(key == SafeTensorsHeader.MetadataKey ? "is reserved" : "occurs twice")}");
            }

            var length = checked(value.Count * value.DType.Size());
            entries.Add(new SafeTensorsEntry(key, value.DType, value.Shape, offset, length));
            offset = checked(offset + length);
        }

        return entries;
    }

    private static string WritePartial(string path, byte[] header, List<(string Key, Tensor Value)> sorted)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using var file = new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 0);
        Append(file, hash, header);
        foreach (var (_, value) in sorted)
        {
            using var scope = new TensorScope(); // frees the packed copy before the next one is made
            Append(file, hash, value.Contiguous().To(Device.Cpu));
        }

        file.Flush(flushToDisk: true);
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static unsafe void Append(FileStream file, IncrementalHash hash, Tensor packed)
    {
        var start = (byte*)packed.DataPointer;
        var length = packed.Count * packed.DType.Size();
        for (long position = 0; position < length; position += ChunkLength)
        {
            Append(file, hash, new ReadOnlySpan<byte>(start + position, (int)Math.Min(ChunkLength, length - position)));
        }
    }

    private static void Append(FileStream file, IncrementalHash hash, ReadOnlySpan<byte> bytes)
    {
        hash.AppendData(bytes);
        file.Write(bytes);
    }
}
