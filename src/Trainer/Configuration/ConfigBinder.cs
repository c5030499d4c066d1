using Moe.Training.Tracking;

namespace Moe.Training.Configuration;

/// <summary>
/// Gathers values from YAML nodes, later ones replacing earlier ones, with the place of each; collects what doesn't fit the
/// records. Ranges and combinations are <see cref="ConfigRules"/>' work, on the values that win.
/// </summary>
/// <param name="faults">Receives unknown and doubled keys and values of a wrong type.</param>
internal sealed class ConfigBinder(ICollection<ConfigFault> faults)
{
    /// <summary>By full path.</summary>
    public Dictionary<string, object?> Values { get; } = [];

    /// <summary>By full path; items of a list as <c>data.domains[0].weight</c>.</summary>
    public Dictionary<string, ConfigOrigin> Origins { get; } = [];

    /// <summary>Keys whose value could not be read, so that no rule speaks about the default in its place.</summary>
    public HashSet<string> Unread { get; } = [];

    /// <param name="section">What the mapping's keys are checked against.</param>
    /// <param name="mapping">The values.</param>
    /// <param name="folder">Relative paths start here.</param>
    /// <param name="prefix">Put before paths in messages and origins: empty, or an item of a list with a dot.</param>
    public void Bind(ConfigSection section, YamlMapping mapping, string folder, string prefix = "")
    {
        var seen = new Dictionary<string, ConfigOrigin>();
        foreach (var (name, value) in mapping.Entries)
        {
            var path = prefix + (section.Path.Length == 0 ? "" : section.Path + ".") + name.Text;
            if (!seen.TryAdd(name.Text, name.Origin))
            {
                faults.Add(new ConfigFault(name.Origin, path, $"{Show(path)} is given twice, first at {seen[name.Text].Location}"));
            }
            else if (section.Children.FirstOrDefault(c => c.Name == name.Text) is { } node)
            {
                BindNode(node, value, name.Origin, folder, prefix);
            }
            else
            {
                faults.Add(Unknown(section, name, path, prefix));
            }
        }
    }

    private static ConfigFault Unknown(ConfigSection section, YamlScalar name, string path, string prefix)
    {
        var children = string.Join(", ", section.Children.Select(c => c.Name));
        var remedy = name.Text == "<<" ? "share values through a parent file instead (extends: other.yaml)"
            : prefix.Length == 0 && NearestKey.To(path) is { } nearest ? $"did you mean {nearest}?"
            : section.Path.Length == 0 && prefix.Length == 0 ? $"the sections are {children}"
            : $"the keys of {(prefix.Length == 0 ? section.Path : prefix.TrimEnd('.'))} are {children}";
        return new ConfigFault(name.Origin, path, $"{Show(path)} is not a key", remedy);
    }

    private static string Show(string path) => path.Length <= 80 ? path : path[..80] + "...";

    private void BindNode(ConfigNode node, YamlNode value, ConfigOrigin origin, string folder, string prefix)
    {
        switch (node, value)
        {
            case (ConfigSection section, YamlMapping mapping):
                Bind(section, mapping, folder, prefix);
                break;
            case (ConfigSection, YamlScalar { IsPlain: true, Text: "" or "~" or "null" }):
                break; // a section whose keys are all commented out
            case (ConfigSection section, _):
                var keys = string.Join(", ", section.Children.Select(c => c.Name));
                faults.Add(new ConfigFault(value.Origin, node.Path, $"{node.Path} is a section and takes keys, not {Kind(value)}", $"its keys are {keys}"));
                break;
            case (ConfigKey { Items: { } items } key, YamlSequence sequence):
                BindList(key, items, sequence, origin, folder);
                break;
            case (ConfigKey { Items: null } key, YamlScalar scalar):
                BindScalar(key, scalar, origin, folder, prefix);
                break;
            default:
                Unread.Add(prefix + node.Path);
                faults.Add(new ConfigFault(value.Origin, prefix + node.Path, $"{prefix}{node.Path} takes {ConfigScalar.Describe((ConfigKey)node)}, not {Kind(value)}"));
                break;
        }
    }

    private void BindScalar(ConfigKey key, YamlScalar scalar, ConfigOrigin origin, string folder, string prefix)
    {
        var (value, fault) = ConfigScalar.Read(key, scalar);
        if (fault is not null)
        {
            Unread.Add(prefix + key.Path);
            faults.Add(new ConfigFault(scalar.Origin, prefix + key.Path, $"{prefix}{key.Path} {fault}"));
            return;
        }

        if (key.Setting.IsPath && value is string path)
        {
            if (path.Length == 0 || path.Contains('\0', StringComparison.Ordinal))
            {
                Unread.Add(prefix + key.Path);
                faults.Add(new ConfigFault(scalar.Origin, prefix + key.Path, $"{prefix}{key.Path} isn't a path"));
                return;
            }

            value = Path.GetFullPath(Path.Combine(folder, path));
        }

        if (key.Setting.IsUri && value is string uri)
        {
            value = TrackingTarget.Anchor(uri, folder);
        }

        Values[key.Path] = value;
        Origins[prefix + key.Path] = origin;
        Unread.Remove(prefix + key.Path);
    }

    private void BindList(ConfigKey key, ConfigSection items, YamlSequence sequence, ConfigOrigin origin, string folder)
    {
        foreach (var stale in Origins.Keys.Where(k => k.StartsWith(key.Path + "[", StringComparison.Ordinal)).ToList())
        {
            Origins.Remove(stale);
        }

        var records = new List<object>();
        var isWhole = true;
        for (var i = 0; i < sequence.Items.Count; i++)
        {
            var prefix = $"{key.Path}[{i}].";
            if (sequence.Items[i] is not YamlMapping mapping)
            {
                isWhole = false;
                faults.Add(new ConfigFault(sequence.Items[i].Origin, prefix.TrimEnd('.'),
                    $"an item of {key.Path} takes keys, not {Kind(sequence.Items[i])}", $"its keys are {string.Join(", ", items.Children.Select(c => c.Name))}"));
                continue;
            }

            var item = new ConfigBinder(faults);
            item.Bind(items, mapping, folder, prefix);
            foreach (var (path, place) in item.Origins)
            {
                Origins[path] = place;
            }

            var missing = items.Children.OfType<ConfigKey>()
                .Where(k => k.IsRequired && !item.Values.ContainsKey(k.Path) && !item.Unread.Contains(prefix + k.Path)).Select(k => k.Path).ToList();
            if (missing.Count > 0)
            {
                faults.Add(new ConfigFault(mapping.Origin, prefix.TrimEnd('.'), $"{prefix.TrimEnd('.')} lacks {string.Join(" and ", missing)}"));
            }

            isWhole &= missing.Count == 0 && item.Unread.Count == 0;
            records.Add(items.Build(item.Values));
        }

        Origins[key.Path] = origin;
        if (isWhole)
        {
            Values[key.Path] = key.NewList(records);
            Unread.Remove(key.Path);
        }
        else
        {
            Unread.Add(key.Path);
        }
    }

    private static string Kind(YamlNode node) => node switch
    {
        YamlMapping => "a mapping",
        YamlSequence => "a list",
        YamlScalar { IsPlain: true, Text: "" } => "nothing",
        YamlScalar scalar => $"the value {(scalar.Text.Length <= 40 ? scalar.Text : scalar.Text[..40] + "...")}",
        _ => throw new InvalidOperationException($"Unknown node {node.GetType().Name}."),
    };
}
