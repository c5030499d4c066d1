using System.Text;

namespace Moe.Launch.Dashboard;

/// <summary>A part of a growing log.</summary>
/// <param name="Text">Whole lines.</param>
/// <param name="Next">Where the next part begins, in bytes.</param>
internal sealed record LogTail(string Text, long Next)
{
    private const int FirstBytes = 1 << 16, MostBytes = 1 << 18;

    /// <summary>Reads what follows a place.</summary>
    /// <param name="stream">The log; null where there is none yet.</param>
    /// <param name="after">What <see cref="Next"/> said; null for the end of the log. Beyond the end, as of a log that was made anew, it is read from the beginning.</param>
    public static LogTail Read(Stream? stream, long? after)
    {
        if (stream is null)
        {
            return new LogTail("", 0);
        }

        var from = after is null ? Math.Max(0, stream.Length - FirstBytes) : after <= stream.Length ? after.Value : 0;
        stream.Seek(from, SeekOrigin.Begin);
        var bytes = new byte[MostBytes];
        var length = stream.ReadAtLeast(bytes, MostBytes, throwOnEndOfStream: false);
        var start = after is null && from > 0 ? Array.IndexOf(bytes, (byte)'\n', 0, length) + 1 : 0;
        var end = Array.LastIndexOf(bytes, (byte)'\n', Math.Max(0, length - 1), length) + 1;

        // A line that is longer than all that was read is shown in pieces.
        end = end == 0 && length == MostBytes ? length : end;
        return new LogTail(Encoding.UTF8.GetString(bytes, start, Math.Max(0, end - start)), from + Math.Max(end, 0));
    }
}
