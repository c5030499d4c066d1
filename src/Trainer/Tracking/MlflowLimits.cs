using System.Text;

namespace Moe.Training.Tracking;

/// <summary>What an MLflow server takes in one request and one name, and how ours are brought into that form.</summary>
internal static class MlflowLimits
{
    public const int MetricsOfBatch = 1000;

    public const int ParametersOfBatch = 100;

    public const int TagsOfBatch = 100;

    public const int EntitiesOfBatch = 1000;

    /// <summary>Bytes of a request's body, below the server's 1,000,000.</summary>
    public const int BytesOfBatch = 900_000;

    public const int KeyLength = 250;

    /// <summary>Characters of a parameter's value; a server that is older than 2.8 takes <see cref="OldParameterLength"/>.</summary>
    public const int ParameterLength = 6000;

    public const int OldParameterLength = 500;

    public const int TagLength = 5000;

    /// <summary>Of an experiment's name: the column of its database is not much wider.</summary>
    public const int NameLength = 250;

    private const string Ellipsis = "...";

    /// <summary>A key of characters that every server takes, in the form of a path that leads nowhere else.</summary>
    public static string CleanKey(string key)
    {
        var characters = new StringBuilder(key.Length);
        foreach (var c in key)
        {
            characters.Append(char.IsAsciiLetterOrDigit(c) || c is '_' or '-' or '.' or ' ' or '/' ? c : '_');
        }

        var segments = characters.ToString().Split('/', StringSplitOptions.RemoveEmptyEntries)
            .Select(segment => segment.All(c => c == '.') ? segment.Replace('.', '_') : segment);
        var clean = string.Join('/', segments);
        return clean.Length == 0 ? "_" : clean.Length <= KeyLength ? clean : clean[..KeyLength].TrimEnd('/');
    }

    /// <summary>
    /// A metric's key with one level of folders at most. In a store of files a metric is a file, so that <c>eval/loss</c> and
    /// <c>eval/loss/verse</c> exclude each other; the second becomes <c>eval/loss.verse</c>.
    /// </summary>
    public static string MetricKey(string key)
    {
        var clean = CleanKey(key);
        var first = clean.IndexOf('/', StringComparison.Ordinal);
        return first < 0 ? clean : clean[..(first + 1)] + clean[(first + 1)..].Replace('/', '.');
    }

    /// <summary>A text of at most <paramref name="length"/> characters, whose end shows where it was cut.</summary>
    public static string Cut(string text, int length)
    {
        if (text.Length <= length)
        {
            return text;
        }

        var kept = length - Ellipsis.Length;
        return text[..(char.IsHighSurrogate(text[kept - 1]) ? kept - 1 : kept)] + Ellipsis;
    }
}
