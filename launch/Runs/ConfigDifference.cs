using Moe.Training.Configuration;

namespace Moe.Launch.Runs;

/// <summary>In which keys two configurations differ.</summary>
internal static class ConfigDifference
{
    private const int Shown = 4;

    /// <summary>Each difference as <c>key: now (was before)</c>, in the order of the keys.</summary>
    public static IReadOnlyList<string> Between(RunConfig before, RunConfig now)
    {
        var earlier = Lines(before);
        return [.. Lines(now).Select(line => (line.Key, Now: line.Value, Before: earlier.GetValueOrDefault(line.Key, "nothing")))
            .Where(line => line.Now != line.Before)
            .Select(line => $"{line.Key}: {line.Now} (was {line.Before})")];
    }

    /// <summary>The first few of them in a line.</summary>
    public static string Text(IReadOnlyList<string> differences) =>
        string.Join(", ", differences.Take(Shown)) + (differences.Count > Shown ? $" and {differences.Count - Shown} more" : "");

    // Full path and value of each scalar, from the YAML that is written for people; an item of a list has its place in the path.
    private static Dictionary<string, string> Lines(RunConfig config)
    {
        var lines = new Dictionary<string, string>();
        var path = new List<(int Indent, string Name)>();
        var items = new Dictionary<string, int>();
        foreach (var line in ConfigYaml.Write(config).Split('\n'))
        {
            var text = line.TrimStart(' ');
            if (text.Length == 0 || text[0] == '#')
            {
                continue;
            }

            var indent = line.Length - text.Length;
            path.RemoveAll(part => part.Indent >= indent);
            if (text.StartsWith("- ", StringComparison.Ordinal))
            {
                var list = string.Join('.', path.Select(part => part.Name));
                var index = items[list] = items.GetValueOrDefault(list) + 1;
                path.Add((indent, FormattableString.Invariant($"{index}")));
                (indent, text) = (indent + 2, text[2..]);
            }

            var colon = text.IndexOf(':', StringComparison.Ordinal);
            if (colon < 0)
            {
                continue;
            }

            path.Add((indent, text[..colon]));
            lines[string.Join('.', path.Select(part => part.Name))] = text[(colon + 1)..].Trim();
        }

        return lines;
    }
}
