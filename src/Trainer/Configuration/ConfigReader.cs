using System.Text;
using System.Text.RegularExpressions;

namespace Moe.Training.Configuration;

/// <summary>
/// Reads a configuration: the records' defaults, under the file's parents (<c>extends: other.yaml</c>), under the file, under
/// <c>--set key.path=value</c>. A later value replaces an earlier one, lists as a whole.
/// </summary>
public static partial class ConfigReader
{
    private const string Extends = "extends";

    /// <summary>Deeper paths than the records have; keeps a hostile option from exhausting the stack.</summary>
    private const int MaximumSegments = 32;

    /// <param name="path">The YAML file, in UTF-8.</param>
    /// <param name="overrides">Each <c>key.path=value</c>, the value in YAML's notation; the last one wins. Paths are relative to the working directory.</param>
    /// <returns>The configuration, checked except for what needs the data or the number of ranks.</returns>
    /// <exception cref="ConfigException">Lists every fault found, in the files, the options and their combination.</exception>
    public static ResolvedConfig Read(string path, IReadOnlyList<string> overrides)
    {
        var faults = new List<ConfigFault>();
        var binder = new ConfigBinder(faults);
        var isWhole = ReadFile(path, ConfigOrigin.Default, [], binder, faults);
        foreach (var text in overrides)
        {
            ReadOverride(text, binder, faults);
        }

        if (!binder.Values.ContainsKey("run.name") && !binder.Unread.Contains("run.name"))
        {
            binder.Values["run.name"] = NameOf(path);
        }

        var config = (RunConfig)ConfigSchema.Root.Build(binder.Values);
        if (isWhole)
        {
            faults.AddRange(ConfigRules.Faults(config, binder.Origins, binder.Unread));
        }

        ConfigRules.ThrowIfAny(InOrder(faults));

        var warnings = ConfigRules.Warnings(config, binder.Origins);
        foreach (var key in ConfigSchema.Keys)
        {
            binder.Origins.TryAdd(key.Path, ConfigOrigin.Default);
        }

        return new ResolvedConfig(config, binder.Origins, warnings);
    }

    /// <param name="path">The file, as the user or its child named it.</param>
    /// <param name="namedAt">Where a child file says <c>extends</c>; default for the file of the command line.</param>
    /// <param name="children">Full paths of the files that led here.</param>
    /// <param name="binder">Receives the file's values, after its parent's.</param>
    /// <param name="faults">Receives what is wrong in either.</param>
    /// <returns>False where a file could not be read, so that nothing can be said about the keys that seem to be missing.</returns>
    private static bool ReadFile(string path, ConfigOrigin namedAt, List<string> children, ConfigBinder binder, List<ConfigFault> faults)
    {
        var before = faults.Count;
        if (ReadText(path, namedAt, faults) is not { } text || YamlTree.Read(text, path, faults) is not { } root)
        {
            return faults.Count == before; // an empty file says nothing, and lacks nothing
        }

        var isWhole = true;
        var full = Path.GetFullPath(path);
        if (root is YamlMapping mapping)
        {
            var parents = mapping.Entries.Where(e => e.Key.Text == Extends).ToList();
            foreach (var (key, value) in parents.Take(1))
            {
                isWhole = ReadParent(path, value, [.. children, full], binder, faults);
            }

            foreach (var (key, _) in parents.Skip(1))
            {
                faults.Add(new ConfigFault(key.Origin, Extends, $"{Extends} is given twice, first at {parents[0].Key.Origin.Location}; a file has one parent"));
            }

            var rest = new YamlMapping(mapping.Origin, [.. mapping.Entries.Where(e => e.Key.Text != Extends)]);
            binder.Bind(ConfigSchema.Root, rest, Path.GetDirectoryName(full)!);
        }
        else if (root is not YamlScalar { IsPlain: true, Text: "" or "~" or "null" })
        {
            var sections = string.Join(", ", ConfigSchema.Root.Children.Select(c => c.Name));
            faults.Add(new ConfigFault(root.Origin, "", "a configuration is a mapping of sections", $"the sections are {sections}"));
        }

        return isWhole;
    }

    private static bool ReadParent(string child, YamlNode value, List<string> children, ConfigBinder binder, List<ConfigFault> faults)
    {
        if (value is not YamlScalar { Text.Length: > 0 } scalar || scalar.Text.Contains('\0', StringComparison.Ordinal))
        {
            faults.Add(new ConfigFault(value.Origin, Extends, $"{Extends} takes the path of one file, relative to this one"));
            return false;
        }

        var parent = Path.Combine(Path.GetDirectoryName(child) ?? "", scalar.Text);
        if (children.Contains(Path.GetFullPath(parent)))
        {
            var circle = string.Join(" -> ", children.Append(Path.GetFullPath(parent)).Select(Path.GetFileName));
            faults.Add(new ConfigFault(value.Origin, Extends, $"{Extends} goes in a circle: {circle}"));
            return false;
        }

        return ReadFile(parent, value.Origin, children, binder, faults);
    }

    private static string? ReadText(string path, ConfigOrigin namedAt, List<ConfigFault> faults)
    {
        try
        {
            // Decodes strictly: a replaced character would turn up in a name or a path much later.
            using var reader = new StreamReader(path, new UTF8Encoding(false, throwOnInvalidBytes: true));
            return reader.ReadToEnd();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or DecoderFallbackException or ArgumentException)
        {
            var what = e switch
            {
                UnauthorizedAccessException when Directory.Exists(path) => $"the configuration file {path} is a folder",
                FileNotFoundException or DirectoryNotFoundException => $"the configuration file {path} doesn't exist",
                DecoderFallbackException => $"the configuration file {path} isn't UTF-8 text",
                _ => $"the configuration file {path} can't be read: {e.Message}",
            };
            faults.Add(new ConfigFault(namedAt, namedAt.IsDefault ? "" : Extends, what));
            return null;
        }
    }

    private static void ReadOverride(string text, ConfigBinder binder, List<ConfigFault> faults)
    {
        var equals = text.IndexOf('=', StringComparison.Ordinal);
        var path = equals < 0 ? text : text[..equals].Trim();
        if (equals < 0 || path.Length == 0 || path.Split('.').Any(s => s.Length == 0))
        {
            faults.Add(new ConfigFault(ConfigOrigin.Set, path, $"{ConfigScalar.Shorten(text)} isn't of the form key.path=value", "for example --set train.steps=100"));
            return;
        }

        var before = faults.Count;
        var value = YamlTree.Read(text[(equals + 1)..], ConfigOrigin.Set.Source, faults);
        if (faults.Count > before)
        {
            binder.Unread.Add(path);
            return;
        }

        // Nested as the file would have it, so that both take the same way.
        var node = value ?? new YamlScalar(ConfigOrigin.Set, "", IsPlain: true);
        var segments = path.Split('.');
        if (segments.Length > MaximumSegments)
        {
            faults.Add(new ConfigFault(ConfigOrigin.Set, path, $"{ConfigScalar.Shorten(path)} is not a key"));
            return;
        }

        foreach (var segment in segments.Reverse())
        {
            node = new YamlMapping(ConfigOrigin.Set, [new(new YamlScalar(ConfigOrigin.Set, segment, IsPlain: true), node)]);
        }

        binder.Bind(ConfigSchema.Root, (YamlMapping)node, Directory.GetCurrentDirectory());
    }

    private static string NameOf(string path)
    {
        var name = NotInNames().Replace(Path.GetFileNameWithoutExtension(path), "-").TrimStart('.');
        return name.Length == 0 ? "run" : name.Length > 64 ? name[..64] : name;
    }

    /// <summary>Faults by file, in the order in which files were read, and line.</summary>
    private static List<ConfigFault> InOrder(List<ConfigFault> faults)
    {
        var sources = faults.Select(f => f.Origin.Source).Distinct().ToList();
        return [.. faults.OrderBy(f => sources.IndexOf(f.Origin.Source)).ThenBy(f => f.Origin.Line).ThenBy(f => f.Origin.Column)];
    }

    [GeneratedRegex("[^A-Za-z0-9._-]")]
    private static partial Regex NotInNames();
}
