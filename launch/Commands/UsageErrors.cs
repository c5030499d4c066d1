using System.CommandLine;
using System.CommandLine.Parsing;
using Moe.Launch.Terminal;

namespace Moe.Launch.Commands;

/// <summary>Prints what is wrong with a command line: each unknown word with the nearest known one, and where to read on.</summary>
internal static class UsageErrors
{
    public static void Write(Screen screen, ParseResult result)
    {
        var unknown = Unknown(result);
        var known = Known(result.CommandResult.Command);
        foreach (var word in unknown)
        {
            var nearest = known.MinBy(candidate => Distance(word, candidate));
            var hint = nearest is not null && Distance(word, nearest) <= Math.Max(2, word.Length / 3) ? $"; did you mean {nearest}?" : "";
            screen.WriteHeadline($"'{word}' is no {(word.StartsWith('-') ? "option" : "command")} of {Path(result)}{hint}");
        }

        foreach (var error in result.Errors.Where(error => !result.UnmatchedTokens.Any(token => error.Message.Contains($"'{token}'", StringComparison.Ordinal))))
        {
            screen.WriteHeadline(error.Message);
        }

        screen.WriteParagraph("try", $"{Path(result)} --help");
    }

    // The value after an unknown option is unknown too, but that is no second mistake.
    private static List<string> Unknown(ParseResult result)
    {
        var tokens = result.UnmatchedTokens;
        return [.. tokens.Where((token, i) => token.StartsWith('-') || i == 0 || !tokens[i - 1].StartsWith('-'))];
    }

    private static List<string> Known(Command command) =>
    [
        .. command.Options.SelectMany(option => option.Aliases.Append(option.Name)).Where(name => name.StartsWith("--", StringComparison.Ordinal)),
        .. command.Subcommands.Select(subcommand => subcommand.Name),
    ];

    private static string Path(ParseResult result)
    {
        var names = new Stack<string>();
        for (SymbolResult? part = result.CommandResult; part is CommandResult command; part = command.Parent)
        {
            names.Push(command.Command is RootCommand ? "launch" : command.Command.Name);
        }

        return string.Join(' ', names);
    }

    /// <summary>Levenshtein's distance: the fewest letters to insert, remove or replace.</summary>
    internal static int Distance(string a, string b)
    {
        var row = Enumerable.Range(0, b.Length + 1).ToArray();
        for (var i = 1; i <= a.Length; i++)
        {
            var diagonal = row[0];
            row[0] = i;
            for (var j = 1; j <= b.Length; j++)
            {
                (diagonal, row[j]) = (row[j], Math.Min(Math.Min(row[j], row[j - 1]) + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)));
            }
        }

        return row[^1];
    }
}
