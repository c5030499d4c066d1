using System.Runtime.InteropServices;

namespace Moe.Training.Hosting;

/// <summary>
/// A standard stream of this process, whose end does not end the run: once nobody reads it (<c>launch ... | head</c>), the terminal is gone,
/// or its disk is full, what is written to it is dropped, and whoever wants to know is told.
/// </summary>
/// <remarks>.NET's own drops it in silence where a pipe breaks, and throws from whichever thread writes where a disk is full.</remarks>
/// <param name="descriptor">1 for standard output, 2 for standard error.</param>
/// <param name="isKept">True for a file: after a disk was full, what is written later is tried again.</param>
public sealed partial class DescriptorStream(int descriptor, bool isKept = false) : Stream
{
    private const int Interrupted = 4, TryAgain = 11;
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(5);

    /// <summary>Called once, with the system's words, when writing has become impossible.</summary>
    public Action<string>? Lost { get; set; }

    /// <summary>Whether writing has become impossible.</summary>
    public bool IsLost { get; private set; }

    /// <inheritdoc/>
    public override bool CanRead => false;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => true;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        while (buffer.Length > 0 && !IsLost)
        {
            var written = WriteTo(descriptor, buffer, buffer.Length);
            if (written >= 0)
            {
                buffer = buffer[(int)written..];
                continue;
            }

            switch (Marshal.GetLastPInvokeError())
            {
                case Interrupted:
                    break;
                case TryAgain: // a reader that made the pipe non-blocking is slow
                    Thread.Sleep(Pause);
                    break;
                case var error:
                    IsLost = !isKept;
                    Lost?.Invoke(Marshal.GetPInvokeErrorMessage(error));
                    return;
            }
        }
    }

    /// <inheritdoc/>
    public override void Flush()
    {
        // Nothing is held back.
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    private static partial nint WriteTo(int descriptor, ReadOnlySpan<byte> bytes, nint count);
}
