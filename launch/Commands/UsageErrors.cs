using System.CommandLine;
using System.CommandLine.Invocation;
using System.CommandLine.Parsing;
using Moe.Launch.Terminal;
using Moe.Training.Configuration;

namespace Moe.Launch.Commands;

/// <summary>Prints what is wrong with a command line: each unknown word with the nearest known one, and where to read on.</summary>
internal static class UsageErrors
{
    /// <summary>Whether the parser refuses the command line, or took an option that the command does not have for one of its arguments.</summary>
    public static bool Any(ParseResult result) => result.Action is ParseErrorAction || (result.Action is { ClearsParseErrors: false } && Swallowed(result).Any());

    public static void Write(Screen screen, ParseResult result)
    {
        var unknown = Unknown(result);
        var known = Known(result.CommandResult.Command);
        foreach (var word in unknown)
        {
            if (!word.StartsWith('-') && result.CommandResult.Command is { Subcommands.Count: 0 } command)
            {
                screen.WriteHeadline(command.Arguments.Count == 0
                    ? $"{Path(result)} takes no words, only options, not '{word}'"
                    : $"'{word}' is one word too many: {Path(result)} takes {Words(command)}");
                continue;
            }

            var nearest = known.MinBy(candidate => NearestKey.Distance(word, candidate));
            var hint = nearest is not null && NearestKey.Distance(word, nearest) <= Math.Max(2, word.Length / 3) ? $"; did you mean {nearest}?" : "";
            screen.WriteHeadline($"'{word}' is no {(word.StartsWith('-') ? "option" : "command")} of {Path(result)}{Commands(word, result)}{hint}");
        }

        // A word that is no command has not been followed by what its command requires.
        var others = unknown.Exists(word => !word.StartsWith('-')) ? [] : result.Errors;
        foreach (var error in others.Where(error => !result.UnmatchedTokens.Any(token => error.Message.Contains($"'{token}'", StringComparison.Ordinal))))
        {
            screen.WriteHeadline(Text(error, result));
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

    // The parser has sentences of its own, and names the runtime's type that a value does not fit; users know of numbers.
    private static string Text(ParseError error, ParseResult result)
    {
        var command = result.CommandResult.Command;
        var option = error.SymbolResult as OptionResult ?? error.SymbolResult?.Parent as OptionResult;
        return error.Message switch
        {
            var text when text.StartsWith("Cannot parse argument", StringComparison.Ordinal) && option?.Tokens is [var token] =>
                $"{option.Option.Name} takes a {(IsReal(option.Option.ValueType) ? "number" : "whole number")}, not '{token.Value}'.",
            var text when text.StartsWith("Required command", StringComparison.Ordinal) =>
                $"{Path(result)} needs a command: {string.Join(", ", command.Subcommands.Select(subcommand => subcommand.Name))}",
            var text when text.StartsWith("Required argument missing", StringComparison.Ordinal) =>
                option is null ? $"{Path(result)} needs {Words(command)}" : $"{option.Option.Name} needs a value{(option.Option.HelpName is { } form ? $": {form}" : "")}",
            var text when text.EndsWith(" is required.", StringComparison.Ordinal)
                && command.Options.FirstOrDefault(candidate => text.Contains($"'{candidate.Name}'", StringComparison.Ordinal)) is { } missing =>
                $"{Path(result)} needs {missing.Name} {missing.HelpName}",
            var text when text.Contains("expects a single argument", StringComparison.Ordinal) && option is not null =>
                $"{option.Option.Name} takes one value, not {option.Tokens.Count}: {string.Join(", ", option.Tokens.Select(token => $"'{token.Value}'"))}",
            var text => text,
        };

        static bool IsReal(Type type) => (Nullable.GetUnderlyingType(type) ?? type) == typeof(double);
    }

    private static string Words(Command command) => string.Join(' ', command.Arguments.Select(argument => argument.Name));

    // The value after an unknown option is unknown too, but that is no second mistake.
    private static List<string> Unknown(ParseResult result)
    {
        List<string> words = [.. Swallowed(result), .. result.UnmatchedTokens];
        return [.. words.Where((word, i) => word.StartsWith('-') || i == 0 || !words[i - 1].StartsWith('-'))];
    }

    // A name that does begin so stands behind `--`, as everywhere, or is written with ./ before it.
    private static IEnumerable<string> Swallowed(ParseResult result)
    {
        var names = result.Tokens.SkipWhile(token => token.Type != TokenType.DoubleDash).Select(token => token.Value).ToHashSet();
        return result.CommandResult.Children.OfType<ArgumentResult>().SelectMany(argument => argument.Tokens)
            .Select(token => token.Value).Where(word => word.StartsWith('-') && !names.Contains(word));
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
