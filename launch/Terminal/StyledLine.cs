using System.Text;

namespace Moe.Launch.Terminal;

/// <summary>How a piece of a line looks where colours are allowed.</summary>
internal enum Style
{
    Plain,
    Good,
    Faint,
    Warning,
}

/// <summary>A line of the terminal, in pieces of one style each.</summary>
internal sealed class StyledLine
{
    private readonly List<(string Text, Style Style)> _pieces = [];

    /// <summary>Columns that it takes.</summary>
    public int Length => _pieces.Sum(piece => piece.Text.Length);

    /// <summary>A line of one style.</summary>
    public static StyledLine Of(string text, Style style = Style.Plain) => new StyledLine().Add(text, style);

    /// <summary>Adds a piece at the end.</summary>
    public StyledLine Add(string text, Style style = Style.Plain)
    {
        if (text.Length > 0)
        {
            _pieces.Add((text, style));
        }

        return this;
    }

    /// <summary>Adds another line's pieces at the end.</summary>
    public StyledLine Add(StyledLine line)
    {
        _pieces.AddRange(line._pieces);
        return this;
    }

    /// <summary>Writes it for a terminal, without a line end.</summary>
    /// <param name="to">Takes the text.</param>
    /// <param name="width">Columns that are left; the rest is cut.</param>
    /// <param name="colored">Whether styles are shown.</param>
    public void Write(StringBuilder to, int width, bool colored)
    {
        foreach (var (text, style) in _pieces)
        {
            var shown = text.Length > width ? text[..width] : text;
            width -= shown.Length;
            var code = colored ? Code(style) : null;
            to.Append(code).Append(shown).Append(code is null ? null : "\u001b[0m");
        }
    }

    private static string? Code(Style style) => style switch
    {
        Style.Good => "\u001b[32m",
        Style.Faint => "\u001b[90m",
        Style.Warning => "\u001b[33m",
        _ => null,
    };
}
