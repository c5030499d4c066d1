using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;

namespace Moe.Launch.Commands;

/// <summary>Options whose values are checked, so that one that will not do is told with its option and with what it takes.</summary>
internal static class OptionValues
{
    /// <summary>One of some words; without the option it is the first.</summary>
    public static Option<string> Choice(string name, string description, params string[] values)
    {
        var option = new Option<string>(name) { Description = description, HelpName = string.Join('|', values), DefaultValueFactory = _ => values[0] };
        option.CompletionSources.Add(values);
        option.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && !values.Contains(token.Value))
            {
                result.AddError($"{name} takes {string.Join(", ", values[..^1])} or {values[^1]}, not '{token.Value}'.");
            }
        });
        return option;
    }

    /// <summary>A whole number that has a default.</summary>
    public static Option<int> Whole(string name, string description, int standard, int least, int most) => new(name)
    {
        Description = description,
        HelpName = "N",
        DefaultValueFactory = _ => standard,
        CustomParser = result => ParseWhole(result, name, least, most) ?? standard,
    };

    /// <summary>A whole number that may be left out.</summary>
    public static Option<int?> OptionalWhole(string name, string description, int least, int most) => new(name)
    {
        Description = description,
        HelpName = "N",
        CustomParser = result => ParseWhole(result, name, least, most),
    };

    /// <summary>A number that has a default.</summary>
    public static Option<double> Number(string name, string description, string form, double standard, double least, double most = double.PositiveInfinity) => new(name)
    {
        Description = description,
        HelpName = form,
        DefaultValueFactory = _ => standard,
        CustomParser = result => ParseNumber(result, name, least, most) ?? standard,
    };

    private static T? Parse<T>(ArgumentResult result, string name, string kind, NumberStyles style, T least, T most, bool isBounded)
        where T : struct, INumber<T>
    {
        if (result.Tokens is not [var token])
        {
            return null; // the parser itself refuses an option without its value
        }

        if (T.TryParse(token.Value, style, CultureInfo.InvariantCulture, out var number) && T.IsFinite(number) && number >= least && number <= most)
        {
            return number;
        }

        result.AddError(FormattableString.Invariant($"{name} takes a {kind} {(isBounded ? FormattableString.Invariant($"from {least} to {most}") : FormattableString.Invariant($"of at least {least}"))}, not '{token.Value}'."));
        return null;
    }

    private static int? ParseWhole(ArgumentResult result, string name, int least, int most) =>
        Parse(result, name, "whole number", NumberStyles.AllowLeadingSign, least, most, most < int.MaxValue);

    private static double? ParseNumber(ArgumentResult result, string name, double least, double most) =>
        Parse(result, name, "number", NumberStyles.Float, least, most, double.IsFinite(most));
}
