using System.Text;
using System.Text.Json;

namespace Moe.Training.Configuration;

/// <summary>Writes a configuration with every key, as YAML that <see cref="ConfigReader"/> reads back to an equal record.</summary>
public static class ConfigYaml
{
    /// <summary>Values longer than this don't push the comments of all lines to the right.</summary>
    private const int WidestAligned = 56;

    /// <param name="config">Its paths are absolute, as the reader makes them: the text may be stored anywhere.</param>
    public static string Write(RunConfig config)
    {
        var text = new StringBuilder();
        foreach (var line in Lines(ConfigSchema.Root, config, "", ""))
        {
            text.Append(line.Text).Append('\n');
        }

        return text.ToString();
    }

    /// <summary>The same with the origin of each value behind it, as <c>config show</c> prints it.</summary>
    /// <param name="resolved">Values and their origins.</param>
    /// <param name="withMeanings">Whether each key has its one-line meaning above it.</param>
    public static string ToAnnotatedYaml(ResolvedConfig resolved, bool withMeanings = false)
    {
        var lines = Lines(ConfigSchema.Root, resolved.Config, "", "").ToList();
        var column = lines.Where(l => l.Path is not null).Max(l => int.Min(l.Text.Length, WidestAligned));
        var text = new StringBuilder();
        foreach (var line in lines)
        {
            if (withMeanings && line.Node is { } node)
            {
                var indent = line.Text.Length - line.Text.TrimStart(' ', '-').Length;
                text.Append(' ', indent).Append("# ").Append(node.Setting.Meaning).Append('\n');
            }

            text.Append(line.Path is null ? line.Text : $"{line.Text.PadRight(column)}  # {resolved.Origins.GetValueOrDefault(line.Path, ConfigOrigin.Default)}").Append('\n');
        }

        return text.ToString();
    }

    /// <summary>
    /// Where each value came from, for programs: <c>{"train.steps":{"value":"60","origin":"--set"},...}</c>, values as YAML writes them. An item of a
    /// list comes from where the list does.
    /// </summary>
    public static string ToOriginJson(ResolvedConfig resolved)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartObject();
            foreach (var (text, path, _) in Lines(ConfigSchema.Root, resolved.Config, "", ""))
            {
                if (path is not null)
                {
                    json.WriteStartObject(path);
                    json.WriteString("value", text[(text.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim());
                    json.WriteString("origin", resolved.Origins.GetValueOrDefault(path.Split('[')[0], ConfigOrigin.Default).ToString());
                    json.WriteEndObject();
                }
            }

            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.ToArray()) + "\n";
    }

    private static IEnumerable<Line> Lines(ConfigSection section, object record, string indent, string prefix)
    {
        foreach (var child in section.Children)
        {
            var value = child.ValueIn(record);
            var path = prefix + child.Path;
            if (child is ConfigSection inner)
            {
                yield return new Line($"{indent}{child.Name}:", null, child);
                foreach (var line in Lines(inner, value!, indent + "  ", prefix))
                {
                    yield return line;
                }
            }
            else if (value is IEnumerable<object> items)
            {
                foreach (var line in ListLines((ConfigKey)child, [.. items], indent, path))
                {
                    yield return line;
                }
            }
            else
            {
                yield return new Line($"{indent}{child.Name}: {ConfigScalar.Write(value)}", path, child);
            }
        }
    }

    private static IEnumerable<Line> ListLines(ConfigKey key, IReadOnlyList<object> items, string indent, string path)
    {
        yield return new Line($"{indent}{key.Name}:{(items.Count == 0 ? " []" : "")}", path, key);
        for (var i = 0; i < items.Count; i++)
        {
            var isFirst = true;
            foreach (var line in Lines(key.Items!, items[i], indent + "    ", $"{path}[{i}]."))
            {
                // The item's first key stands behind its dash; what keys of items mean is said once, by the reference.
                yield return new Line(isFirst ? $"{indent}  - {line.Text.TrimStart()}" : line.Text, line.Path, null);
                isFirst = false;
            }
        }
    }

    /// <summary>A line of YAML, with the key it gives a value to.</summary>
    private readonly record struct Line(string Text, string? Path, ConfigNode? Node);
}
