using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

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
        CustomParser = result => Parse(result, name, least, most) ?? standard,
    };

    /// <summary>A whole number that may be left out.</summary>
    public static Option<int?> OptionalWhole(string name, string description, int least, int most) => new(name)
    {
        Description = description,
        HelpName = "N",
        CustomParser = result => Parse(result, name, least, most),
    };

    /// <summary>A number that has a default.</summary>
    public static Option<double> Number(string name, string description, string form, double standard, double least, double most = double.PositiveInfinity) => new(name)
    {
        Description = description,
        HelpName = form,
        DefaultValueFactory = _ => standard,
        CustomParser = result => Parse(result, name, least, most) ?? standard,
    };

    private static double? Parse(ArgumentResult result, string name, double least, double most)
    {
        if (result.Tokens is not [var token])
        {
            return null;
        }

        if (double.TryParse(token.Value, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && double.IsFinite(number) && number >= least && number <= most)
        {
            return number;
        }

        result.AddError(FormattableString.Invariant($"{name} takes a number {(double.IsFinite(most) ? $"from {least} to {most}" : $"of at least {least}")}, not '{token.Value}'."));
        return null;
    }

    private static int? Parse(ArgumentResult result, string name, int least, int most)
    {
        if (result.Tokens is not [var token])
        {
            return null; // the parser itself refuses an option without its value
        }

        if (int.TryParse(token.Value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most)
        {
            return number;
        }

        result.AddError($"{name} takes a whole number {(most == int.MaxValue ? $"of at least {least}" : $"from {least} to {most}")}, not '{token.Value}'.");
        return null;
    }
}
