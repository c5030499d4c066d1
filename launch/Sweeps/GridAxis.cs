using Moe.Training.Hosting;

namespace Moe.Launch.Sweeps;

/// <summary>A key of the configuration with the values that a sweep gives it.</summary>
/// <param name="Key">Full path, e.g. <c>optimizer.learning_rate</c>.</param>
/// <param name="Values">Each in YAML's notation, as written; at least one, all different.</param>
internal sealed record GridAxis(string Key, IReadOnlyList<string> Values)
{
    private const string Form = "--grid key.path=value,value,...";

    /// <summary>Reads <c>key.path=value,value,...</c>. A comma inside brackets, braces or quotes belongs to the value.</summary>
    /// <exception cref="LaunchException">The text has another form.</exception>
    public static GridAxis Parse(string text)
    {
        var equals = text.IndexOf('=', StringComparison.Ordinal);
        if (equals <= 0)
        {
            throw new LaunchException(ExitCodes.Usage, $"--grid {text} isn't of the form key.path=value,value,...", "for example --grid optimizer.learning_rate=1e-3,3e-3");
        }

        var key = text[..equals].Trim();
        var values = Split(text[(equals + 1)..]);
        if (values.Any(value => value.Length == 0))
        {
            throw new LaunchException(ExitCodes.Usage, $"--grid {text} has an empty value", Form);
        }

        return values.GroupBy(value => value).FirstOrDefault(group => group.Count() > 1) is { Key: var twice }
            ? throw new LaunchException(ExitCodes.Usage, $"--grid {key} has the value {twice} twice", Form)
            : new GridAxis(key, values);
    }

    private static List<string> Split(string text)
    {
        var values = new List<string>();
        var (depth, quote, start) = (0, '\0', 0);
        for (var i = 0; i < text.Length; i++)
        {
            switch (text[i])
            {
                case var c when quote != '\0':
                    quote = c == quote ? '\0' : quote;
                    break;
                case '"' or '\'':
                    quote = text[i];
                    break;
                case '[' or '{':
                    depth++;
                    break;
                case ']' or '}':
                    depth--;
                    break;
                case ',' when depth == 0:
                    values.Add(text[start..i].Trim());
                    start = i + 1;
                    break;
            }
        }

        values.Add(text[start..].Trim());
        return values;
    }
}
