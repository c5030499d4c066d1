namespace Moe.Launch.Terminal;

/// <summary>The characters that are drawn with, for terminals that know Unicode and for those that do not.</summary>
/// <param name="Blocks">From nothing to full, for sparklines.</param>
/// <param name="Done">A cell of a bar that is done.</param>
/// <param name="Open">A cell of a bar that is not.</param>
/// <param name="Cross">Before the headline of an error.</param>
/// <param name="PlusMinus">Between a mean and its spread.</param>
internal sealed record Glyphs(string Blocks, char Done, char Open, string Cross, string PlusMinus)
{
    public static Glyphs Unicode { get; } = new("▁▂▃▄▅▆▇█", '━', '─', "✗", "±");

    public static Glyphs Ascii { get; } = new("_.-:=+*#", '#', '-', "x", "+/-");

    // The first that is set decides.
    private static readonly string[] LocaleVariables = ["LC_ALL", "LC_CTYPE", "LANG"];

    /// <summary>What a terminal can show, as far as its environment says.</summary>
    /// <param name="variable">Environment variables by name. Where no locale is named at all, as in most containers, the terminal around it is taken for one of today.</param>
    public static Glyphs OfTerminal(Func<string, string?> variable)
    {
        var locale = LocaleVariables.Select(variable).FirstOrDefault(value => !string.IsNullOrEmpty(value));
        var isUnicode = locale is null || locale.Contains("UTF-8", StringComparison.OrdinalIgnoreCase) || locale.Contains("UTF8", StringComparison.OrdinalIgnoreCase);
        return isUnicode && variable("TERM") != "linux" ? Unicode : Ascii; // the kernel's own console has no font for blocks
    }
}
