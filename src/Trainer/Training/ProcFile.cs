using System.Globalization;

namespace Moe.Training;

/// <summary>Files in which the kernel tells numbers. Which there are, and which may be read, differs between machines, so that every answer may be null.</summary>
internal static class ProcFile
{
    internal static string? Read(string file)
    {
        try
        {
            return File.ReadAllText(file);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Of a file that holds one number; null for a word in its place.</summary>
    internal static long? Number(string file) => Parse(Read(file));

    /// <summary>Of the line that begins with the name and a space.</summary>
    internal static long? Number(string file, string name)
    {
        foreach (var line in (Read(file) ?? "").AsSpan().EnumerateLines())
        {
            if (line.StartsWith(name, StringComparison.Ordinal) && line.Length > name.Length && line[name.Length] == ' ')
            {
                var number = line[name.Length..].Trim();
                return Parse(number.EndsWith("kB", StringComparison.Ordinal) ? number[..^2] : number);
            }
        }

        return null;
    }

    private static long? Parse(ReadOnlySpan<char> text) => long.TryParse(text, CultureInfo.InvariantCulture, out var number) ? number : null;
}
