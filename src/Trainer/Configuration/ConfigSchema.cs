using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text.Json;

namespace Moe.Training.Configuration;

/// <summary>The tree of sections and keys, read off the records by reflection; the one place that knows their YAML names.</summary>
internal static class ConfigSchema
{
    /// <summary>The whole configuration.</summary>
    public static readonly ConfigSection Root = new(null, "", typeof(RunConfig));

    /// <summary>Every key, in the order of the records; a list counts as one key.</summary>
    public static readonly IReadOnlyList<ConfigKey> Keys = [.. Root.Descendants.OfType<ConfigKey>()];

    /// <param name="path">Full path, e.g. <c>model.moe.experts</c>.</param>
    /// <returns>The section or key; null where there is none.</returns>
    public static ConfigNode? Find(string path) => Root.Descendants.FirstOrDefault(n => n.Path == path);
}

/// <summary>A section or a key.</summary>
internal abstract class ConfigNode(PropertyInfo? property, string path)
{
    /// <summary>Full path; for an item of a list relative to the item.</summary>
    public string Path { get; } = path;

    /// <summary>Last segment of the path.</summary>
    public string Name => Path[(Path.LastIndexOf('.') + 1)..];

    public SettingAttribute Setting { get; } = property?.GetCustomAttribute<SettingAttribute>() ?? new SettingAttribute("");

    public PropertyInfo Property => property ?? throw new InvalidOperationException("The root belongs to no record.");

    /// <summary>The value inside <paramref name="record"/>, the record of the section that holds this node.</summary>
    public object? ValueIn(object record) => Property.GetValue(record);
}

/// <summary>A mapping whose keys are the properties of one record that carry <see cref="SettingAttribute"/>.</summary>
internal sealed class ConfigSection : ConfigNode
{
    private readonly Type _record;

    public ConfigSection(PropertyInfo? property, string path, Type record)
        : base(property, path)
    {
        _record = record;
        Children =
        [
            .. record.GetProperties()
                .Where(p => p.IsDefined(typeof(SettingAttribute)))
                .Select(p => Child(p, (path.Length == 0 ? "" : path + ".") + JsonNamingPolicy.SnakeCaseLower.ConvertName(p.Name))),
        ];
    }

    public IReadOnlyList<ConfigNode> Children { get; }

    /// <summary>All sections and keys below, parents first.</summary>
    public IEnumerable<ConfigNode> Descendants =>
        Children.SelectMany(c => c is ConfigSection section ? section.Descendants.Prepend(c) : [c]);

    /// <summary>A record whose defaults stand.</summary>
    public object NewRecord() => Activator.CreateInstance(_record)!;

    /// <summary>The record with the given values; a key that has none keeps its default.</summary>
    /// <param name="values">By full path (for an item of a list, by path inside the item).</param>
    public object Build(IReadOnlyDictionary<string, object?> values)
    {
        var record = NewRecord();
        foreach (var child in Children)
        {
            if (child is ConfigSection section)
            {
                child.Property.SetValue(record, section.Build(values));
            }
            else if (values.TryGetValue(child.Path, out var value))
            {
                child.Property.SetValue(record, value);
            }
        }

        return record;
    }

    /// <summary>Every key of this section and those below with its value in <paramref name="record"/>.</summary>
    public IEnumerable<(ConfigKey Key, object? Value)> Values(object record) =>
        Children.SelectMany(c => c is ConfigSection section
            ? section.Values(c.ValueIn(record)!)
            : [((ConfigKey)c, c.ValueIn(record))]);

    private static ConfigNode Child(PropertyInfo property, string path) =>
        property.PropertyType.GetProperties().Any(p => p.IsDefined(typeof(SettingAttribute)))
            ? new ConfigSection(property, path, property.PropertyType)
            : new ConfigKey(property, path);
}

/// <summary>A key that holds a scalar, or a list of records.</summary>
internal sealed class ConfigKey : ConfigNode
{
    public ConfigKey(PropertyInfo property, string path)
        : base(property, path)
    {
        var underlying = Nullable.GetUnderlyingType(property.PropertyType);
        Type = underlying ?? property.PropertyType;
        IsNullable = underlying is not null || (Type == typeof(string) && new NullabilityInfoContext().Create(property).ReadState == NullabilityState.Nullable);
        IsRequired = property.IsDefined(typeof(RequiredMemberAttribute));
        if (Type.IsGenericType && Type.GetGenericTypeDefinition() == typeof(ValueList<>))
        {
            Items = new ConfigSection(null, "", Type.GetGenericArguments()[0]);
        }
    }

    /// <summary>Type of a value that isn't null.</summary>
    public Type Type { get; }

    public bool IsNullable { get; }

    /// <summary>Whether an item of a list must say it.</summary>
    public bool IsRequired { get; }

    /// <summary>The keys of one item where this key holds a list; null where it holds a scalar.</summary>
    public ConfigSection? Items { get; }

    /// <summary>The initializer's value.</summary>
    public object? Default => Property.GetValue(Activator.CreateInstance(Property.DeclaringType!));

    /// <summary>A list of this key's type from the records that <see cref="Items"/> built.</summary>
    public object NewList(IReadOnlyList<object> items)
    {
        var array = Array.CreateInstance(Type.GetGenericArguments()[0], items.Count);
        for (var i = 0; i < items.Count; i++)
        {
            array.SetValue(items[i], i);
        }

        return typeof(ConfigKey).GetMethod(nameof(ToList), BindingFlags.NonPublic | BindingFlags.Static)!
            .MakeGenericMethod(Type.GetGenericArguments()[0]).Invoke(null, [array])!;
    }

    private static ValueList<T> ToList<T>(T[] items) => [.. items];
}
