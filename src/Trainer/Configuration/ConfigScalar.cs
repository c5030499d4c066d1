using System.Globalization;
using System.Text.RegularExpressions;

namespace Moe.Training.Configuration;

/// <summary>Values as YAML 1.2's core schema writes them: <c>no</c> is text, <c>1_000</c> is text, <c>1e-3</c> is a number.</summary>
internal static partial class ConfigScalar
{
    /// <summary>Reads a scalar as the type that <paramref name="key"/> wants.</summary>
    /// <returns>The value (null only where the key may be null), or what is wrong as a phrase to follow the key's name.</returns>
    public static (object? Value, string? Fault) Read(ConfigKey key, YamlScalar scalar)
    {
        if (scalar.IsPlain && IsNull(scalar.Text))
        {
            return key.IsNullable ? (null, null) : (null, $"has no value; it takes {Describe(key)}");
        }

        if (key.Type == typeof(string))
        {
            return (scalar.Text, null);
        }

        if (key.Type.IsEnum)
        {
            return ConfigChoices.Parse(key.Type, scalar.Text) is { } choice ? (choice, null) : (null, Unknown(key, scalar.Text));
        }

        if (!scalar.IsPlain)
        {
            return (null, $"is the text \"{Shorten(scalar.Text)}\"; write {Describe(key)}, without quotes");
        }

        if (key.Type == typeof(bool))
        {
            return scalar.Text switch
            {
                "true" or "True" or "TRUE" => (true, null),
                "false" or "False" or "FALSE" => (false, null),
                _ => Wrong(key, scalar),
            };
        }

        return key.Type == typeof(double) ? ReadReal(key, scalar) : ReadInteger(key, scalar);
    }

    /// <summary>The scalar that reads back as <paramref name="value"/>.</summary>
    public static string Write(object? value) => value switch
    {
        null => "null",
        bool b => b ? "true" : "false",
        double d => Exact(d).ToLowerInvariant(),
        Enum e => ConfigChoices.Spelling(e),
        string s => IsSafePlain(s) ? s : Quote(s),
        _ => Convert.ToString(value, CultureInfo.InvariantCulture)!,
    };

    /// <summary>The shortest text that reads back as the number; all 17 digits for 2^-25 and 2^-958, whose shortest text by .NET 10 reads back as their neighbours.</summary>
    public static string Exact(double number)
    {
        var text = number.ToString("R", CultureInfo.InvariantCulture);
        return double.IsNaN(number) || double.Parse(text, CultureInfo.InvariantCulture) == number ? text : number.ToString("G17", CultureInfo.InvariantCulture);
    }

    /// <summary>The type and range of a key's values, e.g. "a whole number from 1 to 1024".</summary>
    public static string Describe(ConfigKey key)
    {
        var kind = key switch
        {
            { Items: not null } => "a list",
            { Type.IsEnum: true } => "one of " + string.Join(", ", ConfigChoices.Of(key.Type)),
            _ when key.Type == typeof(bool) => "true or false",
            _ when key.Type == typeof(double) => "a number",
            _ when key.Setting.IsPath => "a path",
            _ when key.Setting.IsName => "a name of at most 64 letters, digits, '.', '_' and '-'",
            _ when key.Type == typeof(string) => "text",
            _ => "a whole number",
        };
        var range = Range(key.Setting);
        return kind + (range.Length == 0 ? "" : " " + range) + (key.IsNullable ? ", or null" : "");
    }

    /// <summary>Whether YAML 1.2 reads the plain scalar as something else than text.</summary>
    private static bool IsReserved(string text) =>
        IsNull(text) || Integer().IsMatch(text) || Real().IsMatch(text) || NotFinite().IsMatch(text)
        || text is "true" or "True" or "TRUE" or "false" or "False" or "FALSE";

    private static bool IsNull(string text) => text is "" or "~" or "null" or "Null" or "NULL";

    private static string Range(SettingAttribute s)
    {
        var lower = !double.IsNaN(s.AtLeast) ? $"from {Write(s.AtLeast)}" : !double.IsNaN(s.Above) ? $"above {Write(s.Above)}" : "";
        var upper = !double.IsNaN(s.AtMost) ? $"to {Write(s.AtMost)}" : !double.IsNaN(s.Below) ? $"below {Write(s.Below)}" : "";
        return (lower, upper) switch
        {
            ("", _) => upper,
            (_, "") when !double.IsNaN(s.AtLeast) => $"of at least {Write(s.AtLeast)}",
            (_, "") => lower,
            _ => $"{lower} {upper}",
        };
    }

    private static (object? Value, string? Fault) Wrong(ConfigKey key, YamlScalar scalar) =>
        (null, $"is {Shorten(scalar.Text)}; it takes {Describe(key)}");

    private static string Unknown(ConfigKey key, string text)
    {
        static string Section(ConfigKey key) => key.Path[..(key.Path.LastIndexOf('.') + 1)];
        var choices = ConfigSchema.Root.Values(new RunConfig()).Select(value => value.Key).Where(other => other.Type.IsEnum);
        if (choices.FirstOrDefault(other => Section(other) == Section(key) && ConfigChoices.Of(other.Type).Contains(text)) is { } owner)
        {
            return $"is {Shorten(text)}, a value of {owner.Path}; it takes {Describe(key)}";
        }

        var nearest = text.Length > 64 ? null : ConfigChoices.Of(key.Type).MinBy(choice => NearestKey.Distance(choice, text));
        var isNear = nearest is not null && NearestKey.Distance(nearest, text) <= (nearest.Length + 2) / 3;
        return $"is {Shorten(text)}{(isNear ? $" (did you mean {nearest}?)" : "")}; it takes {Describe(key)}";
    }

    private static (object? Value, string? Fault) ReadReal(ConfigKey key, YamlScalar scalar)
    {
        if (NotFinite().IsMatch(scalar.Text))
        {
            return (null, $"is {Shorten(scalar.Text)}; it takes a finite number");
        }

        if (!Real().IsMatch(scalar.Text) && !Integer().IsMatch(scalar.Text))
        {
            return Wrong(key, scalar);
        }

        if (scalar.Text.StartsWith("0x", StringComparison.Ordinal) || scalar.Text.StartsWith("0o", StringComparison.Ordinal))
        {
            return TryInteger(scalar.Text, out var whole) ? ((double)whole, null) : Wrong(key, scalar);
        }

        var number = double.Parse(scalar.Text, NumberStyles.Float, CultureInfo.InvariantCulture);
        return double.IsFinite(number) ? (number, null) : (null, $"is {Shorten(scalar.Text)}, beyond the largest number 1.8e308");
    }

    private static (object? Value, string? Fault) ReadInteger(ConfigKey key, YamlScalar scalar)
    {
        if (!Integer().IsMatch(scalar.Text))
        {
            return Wrong(key, scalar);
        }

        var (smallest, largest) = key.Type == typeof(ulong) ? ((Int128)ulong.MinValue, (Int128)ulong.MaxValue) : (int.MinValue, int.MaxValue);
        return !TryInteger(scalar.Text, out var number) || number < smallest || number > largest
            ? (null, $"is {Shorten(scalar.Text)}, outside of {smallest} to {largest}")
            : (Convert.ChangeType(key.Type == typeof(ulong) ? (ulong)number : (object)(int)number, key.Type, CultureInfo.InvariantCulture), null);
    }

    private static bool TryInteger(string text, out Int128 number)
    {
        if (text.StartsWith("0x", StringComparison.Ordinal))
        {
            // Sixteen digits at most: more would wrap around to a negative number.
            number = 0;
            return text.Length <= 18 && Int128.TryParse(text.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out number);
        }

        if (!text.StartsWith("0o", StringComparison.Ordinal))
        {
            return Int128.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out number);
        }

        number = 0;
        foreach (var digit in text.AsSpan(2))
        {
            number = number * 8 + (digit - '0');
            if (number > ulong.MaxValue)
            {
                return false;
            }
        }

        return true;
    }

    private static bool IsSafePlain(string text) => SafePlain().IsMatch(text) && !IsReserved(text);

    private static string Quote(string text) =>
        "\"" + string.Concat(text.Select(c => c switch
        {
            '"' => "\\\"",
            '\\' => "\\\\",
            _ when c is >= ' ' and < '\x7f' || char.IsLetter(c) || char.IsSurrogate(c) => c.ToString(),
            _ => $"\\u{(int)c:x4}",
        })) + "\"";

    internal static string Shorten(string text) => text.Length <= 40 ? text : text[..40] + $"... ({text.Length} characters)";

    [GeneratedRegex(@"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\z")]
    private static partial Regex Integer();

    [GeneratedRegex(@"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\z")]
    private static partial Regex Real();

    [GeneratedRegex(@"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\z")]
    private static partial Regex NotFinite();

    [GeneratedRegex(@"^[A-Za-z_/.][A-Za-z0-9_./-]*\z")]
    private static partial Regex SafePlain();
}
