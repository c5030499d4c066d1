using System.Text;
using Moe.Training.Hosting;

namespace Moe.Launch.Terminal;

/// <summary>Where the launcher prints, and what may be printed there.</summary>
/// <param name="Output">Standard output.</param>
/// <param name="Error">Standard error: failure reports, and everything for people under <c>--ui json</c>.</param>
/// <param name="IsInteractive">Whether standard output is a terminal that can move its cursor.</param>
/// <param name="IsColored">Whether standard output is a terminal that may be coloured.</param>
/// <param name="IsErrorColored">Whether standard error is a terminal that may be coloured.</param>
/// <param name="Glyphs">What standard output can show.</param>
/// <param name="ErrorGlyphs">What standard error can show.</param>
/// <param name="Size">Columns and lines of the terminal as it is now.</param>
internal sealed record Screen(
    TextWriter Output,
    TextWriter Error,
    bool IsInteractive,
    bool IsColored,
    bool IsErrorColored,
    Glyphs Glyphs,
    Glyphs ErrorGlyphs,
    Func<(int Columns, int Lines)> Size)
{
    private const int WidthWithoutTerminal = 100, HeightWithoutTerminal = 24;

    /// <summary>Columns now; a terminal may be resized while a run goes on.</summary>
    public int Width => Size().Columns is > 1 and var columns ? columns : WidthWithoutTerminal;

    /// <summary>Lines now.</summary>
    public int Height => Size().Lines is > 1 and var lines ? lines : HeightWithoutTerminal;

    /// <summary>How much is shown.</summary>
    public Verbosity Verbosity { get; init; } = Verbosity.Normal;

    /// <summary>Looks at this process's standard streams.</summary>
    /// <param name="variable">Environment variables by name: TERM, NO_COLOR (https://no-color.org), the locale's.</param>
    public static Screen Detect(Func<string, string?> variable)
    {
        var canMove = variable("TERM") is { Length: > 0 } and not "dumb";
        var mayColor = canMove && string.IsNullOrEmpty(variable("NO_COLOR"));
        var error = new DescriptorStream(2);
        var errorWriter = Writer(error);
        var output = new DescriptorStream(1)
        {
            Lost = reason => errorWriter.WriteLine(
                $"standard output is gone ({reason}): what is under way goes on without it, its files keep the rest; Ctrl-C stops it"),
        };
        var terminal = Glyphs.OfTerminal(variable);
        var isAnyTerminal = !Console.IsOutputRedirected || !Console.IsErrorRedirected;
        return new Screen(
            Writer(output),
            errorWriter,
            canMove && !Console.IsOutputRedirected,
            mayColor && !Console.IsOutputRedirected,
            mayColor && !Console.IsErrorRedirected,
            Console.IsOutputRedirected ? Glyphs.Unicode : terminal,
            Console.IsErrorRedirected ? Glyphs.Unicode : terminal,
            () => isAnyTerminal ? TerminalSize() : (0, 0));
    }

    /// <summary>Prints the headline of an error.</summary>
    public void WriteHeadline(string text)
    {
        var line = $"{ErrorGlyphs.Cross} {text}";
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

    private static TextWriter Writer(DescriptorStream stream) =>
        TextWriter.Synchronized(new StreamWriter(stream, Encoding()) { AutoFlush = true });

    // Of the locale; UTF-8 without the mark at the beginning that the encoding would write.
    private static Encoding Encoding() => Console.OutputEncoding is { CodePage: not 65001 } other ? other : new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);

    private static (int Columns, int Lines) TerminalSize()
    {
        try
        {
            return (Console.WindowWidth, Console.WindowHeight);
        }
        catch (IOException)
        {
            return (0, 0); // the terminal has been closed
        }
    }
}
