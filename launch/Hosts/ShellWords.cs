namespace Moe.Launch.Hosts;

/// <summary>Words as a POSIX shell reads them.</summary>
internal static class ShellWords
{
    /// <summary>One word that a shell takes as it is: left alone where nothing in it is special, else in single quotes.</summary>
    public static string Quote(string word) =>
        word.Length > 0 && word.All(c => char.IsAsciiLetterOrDigit(c) || "-_./:=,@%+".Contains(c, StringComparison.Ordinal))
            ? word
            : $"'{word.Replace("'", "'\\''", StringComparison.Ordinal)}'";

    /// <summary>A command line of such words.</summary>
    public static string Join(IEnumerable<string> words) => string.Join(' ', words.Select(Quote));

    /// <summary>The words of a setting such as <c>ssh -p 2222</c>; quotes have no meaning in it.</summary>
    public static IReadOnlyList<string> Split(string setting) => setting.Split(' ', StringSplitOptions.RemoveEmptyEntries);
}
