using System.IO.MemoryMappedFiles;
using System.Numerics;

namespace Moe.Data;

/// <summary>A memory-mapped array of 1- or 2-byte little-endian token ids.</summary>
internal sealed unsafe class MappedTokens : IDisposable
{
    private readonly MemoryMappedFile _map;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _tokens;
    private readonly int _tokenBytes;
    private bool _isDisposed;

    /// <param name="path">Not empty, and as long as <paramref name="count"/> tokens.</param>
    /// <param name="count">Number of tokens.</param>
    /// <param name="tokenBytes">1 or 2.</param>
    public MappedTokens(string path, long count, int tokenBytes)
    {
        _tokenBytes = tokenBytes;
        _map = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
        _view = _map.CreateViewAccessor(0, count * tokenBytes, MemoryMappedFileAccess.Read);
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref _tokens);
        Count = count;
    }

    public long Count { get; }

    public void Read(long start, Span<long> tokens)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(start, Count - tokens.Length);
        if (_tokenBytes == 1)
        {
            Widen(new ReadOnlySpan<byte>(_tokens + start, tokens.Length), tokens);
        }
        else
        {
            Widen(new ReadOnlySpan<ushort>((ushort*)_tokens + start, tokens.Length), tokens);
        }
    }

    public void Dispose()
    {
        if (!_isDisposed)
        {
            _isDisposed = true;
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            _view.Dispose();
            _map.Dispose();
        }
    }

    private static void Widen<T>(ReadOnlySpan<T> source, Span<long> tokens)
        where T : unmanaged, IBinaryInteger<T>
    {
        for (var i = 0; i < source.Length; i++)
        {
            tokens[i] = long.CreateTruncating(source[i]);
        }
    }
}
