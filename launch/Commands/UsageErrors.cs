using System.CommandLine;
using System.CommandLine.Parsing;
using Moe.Launch.Terminal;
using Moe.Training.Configuration;

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
            var nearest = known.MinBy(candidate => NearestKey.Distance(word, candidate));
            var hint = nearest is not null && NearestKey.Distance(word, nearest) <= Math.Max(2, word.Length / 3) ? $"; did you mean {nearest}?" : "";
            screen.WriteHeadline($"'{word}' is no {(word.StartsWith('-') ? "option" : "command")} of {Path(result)}{Commands(word, result)}{hint}");
        }

        // A word that is no command has not been followed by what its command requires.
        var others = unknown.Exists(word => !word.StartsWith('-')) ? [] : result.Errors;
        foreach (var error in others.Where(error => !result.UnmatchedTokens.Any(token => error.Message.Contains($"'{token}'", StringComparison.Ordinal))))
        {
            screen.WriteHeadline(Text(error));
        }

        screen.WriteParagraph("try", $"{Path(result)} --help");
    }

    /// <summary>
    /// Options of <c>launch</c> itself that stand before a sub-command: they are training's, and the sub-command, which has its own of the
    /// same names, would run without them.
    /// </summary>
    public static IReadOnlyList<string> Misplaced(ParseResult result) => result.CommandResult.Command is RootCommand
        ? []
        : [.. result.RootCommandResult.Children.OfType<OptionResult>().Where(option => !option.Implicit && !option.Option.Recursive).Select(option => option.Option.Name)];

    /// <summary>Says where misplaced options belong.</summary>
    public static void WriteMisplaced(Screen screen, ParseResult result, IReadOnlyList<string> options)
    {
        screen.WriteHeadline($"{string.Join(", ", options)} before the command '{result.CommandResult.Command.Name}' would have no effect");
        screen.WriteParagraph("try", $"{Path(result)} {string.Join(' ', options.Select(option => option + " ..."))}");
    }

    // The parser names the runtime's type that a value does not fit; users know of numbers.
    private static string Text(ParseError error)
    {
        var option = error.SymbolResult as OptionResult ?? error.SymbolResult?.Parent as OptionResult;
        return error.Message.StartsWith("Cannot parse argument", StringComparison.Ordinal) && option?.Tokens is [var token]
            ? $"{option.Option.Name} takes a {(IsReal(option.Option.ValueType) ? "number" : "whole number")}, not '{token.Value}'."
            : error.Message;

        static bool IsReal(Type type) => (Nullable.GetUnderlyingType(type) ?? type) == typeof(double);
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

    // Where a command is wanted, all there are: under launch itself its help is nearer.
    private static string Commands(string word, ParseResult result) =>
        word.StartsWith('-') || result.CommandResult.Command is RootCommand || result.CommandResult.Command.Subcommands is not { Count: > 0 } commands
            ? ""
            : $"; there are {string.Join(", ", commands.Select(command => command.Name))}";

    private static string Path(ParseResult result)
    {
        var names = new Stack<string>();
        for (SymbolResult? part = result.CommandResult; part is CommandResult command; part = command.Parent)
        {
            names.Push(command.Command is RootCommand ? "launch" : command.Command.Name);
        }

        return string.Join(' ', names);
    }
}
