using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using Microsoft.Win32.SafeHandles;

namespace Moe.Torch;

/// <summary>A safetensors file, open for reading: its header is checked as a whole, its data is mapped and read when asked for.</summary>
/// <remarks>
/// Format: https://github.com/huggingface/safetensors. A file that is renamed over while open stays readable as it was;
/// a file must not be changed in place (<see cref="SafeTensorsWriter"/> never does). One that has become shorter is refused
/// when its data is asked for.
/// </remarks>
public sealed unsafe class SafeTensorsFile : IDisposable
{
    private readonly SafeFileHandle _file;
    private readonly long _length;
    private readonly Dictionary<string, SafeTensorsEntry> _entries;
    private readonly MemoryMappedFile _map;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _data;
    private bool _disposed;

    private SafeTensorsFile(string path, SafeFileHandle file)
    {
        Path = path;
        _file = file;
        _length = RandomAccess.GetLength(file);
        var header = ReadHeader(path, file, _length, out var dataStart);
        Keys = [.. header.Entries.Select(e => e.Key)];
        Metadata = header.Metadata;
        _entries = header.Entries.ToDictionary(e => e.Key);

        _map = MemoryMappedFile.CreateFromFile(file, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: true);
        _view = _map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
        byte* start = null;
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
        _data = start + _view.PointerOffset + dataStart;
    }

    /// <summary>The file, as it was given to <see cref="Open"/>.</summary>
    public string Path { get; }

    /// <summary>Names of the tensors, in the order of their data.</summary>
    public IReadOnlyList<string> Keys { get; }

    /// <summary>Free text of the file's writer; empty where there is none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Opens a file and checks its header; the data is not read.</summary>
    /// <exception cref="SafeTensorsException">The header is damaged, or does not fit the length of the file.</exception>
    /// <exception cref="IOException">The file does not exist or cannot be read.</exception>
    public static SafeTensorsFile Open(string path)
    {
        // Shared with writers: no lock is taken, as other ranks read the same file and network file systems may lack locks.
        var file = File.OpenHandle(path, share: FileShare.ReadWrite | FileShare.Delete);
        try
        {
            return new SafeTensorsFile(path, file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Whether the file has a tensor of this name.</summary>
    public bool Contains(string key) => _entries.ContainsKey(key);

    /// <summary>Type, shape and place of one tensor.</summary>
    /// <exception cref="SafeTensorsException">The file has no tensor of this name.</exception>
    public SafeTensorsEntry Entry(string key) => _entries.TryGetValue(key, out var entry)
        ? entry
        : throw new SafeTensorsException(Path, key, $"is not among the file's {Keys.Count} tensors");

    /// <summary>The bytes of one tensor where they are mapped, without a copy; valid until this object is disposed.</summary>
    /// <exception cref="SafeTensorsException">
    /// The file has no tensor of this name, has become shorter, or the tensor is longer than the 2 GiB of a span.
    /// </exception>
    public ReadOnlySpan<byte> Bytes(string key)
    {
        var entry = Entry(key);
        var source = Locate(entry);
        return entry.Length <= int.MaxValue
            ? new ReadOnlySpan<byte>(source, (int)entry.Length)
            : throw new SafeTensorsException(Path, key, $"its {entry.Length} bytes exceed a span; {nameof(Load)} has no such limit");
    }

    /// <summary>A new tensor with a copy of the data, of the file's shape and type.</summary>
    /// <exception cref="SafeTensorsException">
    /// The file has no tensor of this name, has become shorter, or a BOOL is neither 0 nor 1.
    /// </exception>
    public Tensor Load(string key)
    {
        var entry = Entry(key);
        var source = Locate(entry);
        var tensor = Tensor.Empty([.. entry.Shape], entry.DType);
        Buffer.MemoryCopy(source, (void*)tensor.DataPointer, entry.Length, entry.Length);
        if (entry.DType == DType.Bool)
        {
            CheckBooleans(key, tensor, entry.Length);
        }

        return tensor;
    }

    /// <summary>Unmaps the file: spans of <see cref="Bytes"/> end here, loaded tensors stay.</summary>
    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            _view.Dispose();
            _map.Dispose();
            _file.Dispose();
        }
    }

    private static SafeTensorsHeader ReadHeader(string path, SafeFileHandle file, long length, out long dataStart)
    {
        if (length < SafeTensorsHeader.PrefixLength)
        {
            throw new SafeTensorsException(path, null, $"{length} bytes are too few for the {SafeTensorsHeader.PrefixLength} of the header's length");
        }

        Span<byte> prefix = stackalloc byte[SafeTensorsHeader.PrefixLength];
        ReadExactly(path, file, prefix, 0);
        var textLength = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (textLength > SafeTensorsHeader.TextLimit)
        {
            throw new SafeTensorsException(path, null, $"a header of {textLength} bytes is beyond the format's limit of {SafeTensorsHeader.TextLimit}");
        }

        dataStart = SafeTensorsHeader.PrefixLength + (long)textLength;
        if (dataStart > length)
        {
            throw new SafeTensorsException(path, null, $"a header of {textLength} bytes passes the end of the file at {length}; it may be cut short");
        }

        var text = new byte[textLength];
        ReadExactly(path, file, text, SafeTensorsHeader.PrefixLength);
        return SafeTensorsHeaderReader.Read(path, text, length - dataStart);
    }

    private static void ReadExactly(string path, SafeFileHandle file, Span<byte> destination, long offset)
    {
        while (!destination.IsEmpty)
        {
            var count = RandomAccess.Read(file, destination, offset);
            if (count == 0)
            {
                throw new SafeTensorsException(path, null, $"the file ended at byte {offset} while its header was read");
            }

            destination = destination[count..];
            offset += count;
        }
    }

    // Reading a map behind the end of its file kills the process, so the file's length is asked for before each access.
    private byte* Locate(SafeTensorsEntry entry)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        var length = RandomAccess.GetLength(_file);
        return length >= _length
            ? _data + entry.Offset
            : throw new SafeTensorsException(Path, entry.Key, $"the file had {_length} bytes when it was opened, and has {length} now");
    }

    private void CheckBooleans(string key, Tensor tensor, long length)
    {
        const int Step = 1 << 30;
        for (long start = 0; start < length; start += Step)
        {
            var bytes = new ReadOnlySpan<byte>((byte*)tensor.DataPointer + start, (int)Math.Min(Step, length - start));
            if (bytes.IndexOfAnyExceptInRange((byte)0, (byte)1) is var index and >= 0)
            {
                var value = bytes[index];
                tensor.Dispose();
                throw new SafeTensorsException(Path, key, $"element {start + index} of BOOL is {value}, neither 0 nor 1");
            }
        }
    }
}
