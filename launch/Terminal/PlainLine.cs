using System.Globalization;

namespace Moe.Launch.Terminal;

/// <summary>A line of output that is read by pipes, log files and grep.</summary>
internal static class PlainLine
{
    /// <summary>Writes the text behind the time, at once.</summary>
    public static void WriteStamped(this TextWriter output, string text)
    {
        output.WriteLine($"{DateTime.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture)} {text}");
        output.Flush();
    }
}
