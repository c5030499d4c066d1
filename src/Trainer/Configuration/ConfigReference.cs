using System.Text;

namespace Moe.Training.Configuration;

/// <summary>The reference of all keys, docs/configuration.md, written from the records.</summary>
public static class ConfigReference
{
    private const string Introduction = """
        # Configuration

        This page is written from the records in `src/Trainer/Configuration`; a test compares the two. To rewrite it after changing a record:
        `MOE_UPDATE_DOCS=1 dotnet test --filter Configuration_page_is_up_to_date`.

        A run is one YAML file. A key that it leaves out has the default below. Values come, the later over the earlier, from

        1. the defaults,
        2. the file's parent (`extends: other.yaml`, relative to the file), and that file's parent before it,
        3. the file,
        4. `--set key.path=value`, any number of times; the last one wins, and the value is YAML: `--set "data.domains=[{name: a, path: a.txt}]"`.

        `launch config show --config FILE` prints every value with the line that it comes from. A list replaces the parent's list as a whole.
        Scalars are those of YAML 1.2: `no` is text, `1e-3` is a number, `1_000` is neither. Anchors, tags and several documents in one file are refused.
        All faults of a configuration are reported at once, with file, line and the nearest valid key, and the exit code is 1.
        Paths are relative to the folder of the file that says them, and to the working directory in `--set`.

        """;

    /// <summary>One table a section: key, default, values, meaning.</summary>
    public static string ToMarkdown()
    {
        var text = new StringBuilder(Introduction.ReplaceLineEndings("\n"));
        foreach (var section in ConfigSchema.Root.Descendants.OfType<ConfigSection>())
        {
            WriteSection(text, $"`{section.Path}`", section.Setting.Meaning, section);
        }

        return text.ToString();
    }

    private static void WriteSection(StringBuilder text, string title, string meaning, ConfigSection section)
    {
        text.Append($"\n## {title}\n\n{meaning}\n\n| key | default | values | meaning |\n| --- | --- | --- | --- |\n");
        var keys = section.Children.OfType<ConfigKey>().ToList();
        foreach (var key in keys)
        {
            var when = key.Setting.When is { } condition ? $" Counts with `{condition.Replace("|", "\\|", StringComparison.Ordinal)}`." : "";
            text.Append($"| `{key.Name}` | {DefaultOf(key)} | {ConfigScalar.Describe(key)} | {key.Setting.Meaning}{when} |\n");
        }

        foreach (var key in keys.Where(k => k.Items is not null))
        {
            WriteSection(text, $"an item of `{key.Path}`", key.Setting.Meaning, key.Items!);
        }
    }

    private static string DefaultOf(ConfigKey key) =>
        key.Setting.Default ?? (key.IsRequired ? "required" : key.Items is not null ? "empty, so one must be given" : $"`{ConfigScalar.Write(key.Default)}`");
}
