using System.Text;

namespace Moe.Launch.Terminal;

/// <summary>Where the launcher prints, and what may be printed there.</summary>
/// <param name="Output">Standard output.</param>
/// <param name="Error">Standard error: failure reports, and everything for people under <c>--ui json</c>.</param>
/// <param name="IsInteractive">Whether standard output is a terminal that can move its cursor.</param>
/// <param name="IsErrorColored">Whether standard error is a terminal that may be coloured.</param>
/// <param name="Width">Columns of the terminal; 100 where there is none.</param>
internal sealed record Screen(TextWriter Output, TextWriter Error, bool IsInteractive, bool IsErrorColored, int Width)
{
    private const int WidthWithoutTerminal = 100;

    /// <summary>Looks at this process's standard streams.</summary>
    /// <param name="variable">Environment variables by name: TERM, NO_COLOR (https://no-color.org).</param>
    public static Screen Detect(Func<string, string?> variable)
    {
        var canMove = variable("TERM") is { Length: > 0 } and not "dumb";
        var width = Console.IsOutputRedirected && Console.IsErrorRedirected ? WidthWithoutTerminal : Console.WindowWidth;
        return new Screen(
            TextWriter.Synchronized(Console.Out),
            TextWriter.Synchronized(Console.Error),
            canMove && !Console.IsOutputRedirected,
            canMove && !Console.IsErrorRedirected && string.IsNullOrEmpty(variable("NO_COLOR")),
            width > 0 ? width : WidthWithoutTerminal);
    }

    /// <summary>Prints the headline of an error.</summary>
    public void WriteHeadline(string text)
    {
        var line = $"✗ {text}";
        Error.WriteLine(IsErrorColored ? $"\u001b[31m{line}\u001b[0m" : line);
    }

    /// <summary>Prints a labelled paragraph of an error, wrapped and indented.</summary>
    /// <param name="label">At most 7 characters.</param>
    /// <param name="text">Any length; line ends in it are kept.</param>
    public void WriteParagraph(string label, string text)
    {
        const int Indent = 10;
        var first = true;
        foreach (var line in text.Split('\n').SelectMany(line => Wrap(line.TrimEnd(), Math.Max(Width - Indent, 20))))
        {
            Error.WriteLine((first ? $"  {label}".PadRight(Indent) : new string(' ', Indent)) + line);
            first = false;
        }
    }

    /// <summary>Breaks a line at spaces; a longer word (a path) keeps a line of its own.</summary>
    internal static IEnumerable<string> Wrap(string text, int width)
    {
        var line = new StringBuilder();
        foreach (var word in text.Split(' '))
        {
            if (line.Length > 0 && line.Length + 1 + word.Length > width)
            {
                yield return line.ToString();
                line.Clear();
            }

            line.Append(line.Length > 0 ? " " : "").Append(word);
        }

        yield return line.ToString();
    }
}
