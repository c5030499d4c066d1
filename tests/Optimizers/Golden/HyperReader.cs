using System.Text.Json;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>The settings of a golden file. Every one must be asked for: a setting that a replay doesn't know makes other numbers.</summary>
/// <param name="values">An object.</param>
/// <param name="place">Where it stands, for messages.</param>
public sealed class HyperReader(JsonElement values, string place)
{
    private readonly HashSet<string> _known = [];
    private readonly List<HyperReader> _sections = [];

    /// <summary>Whether the key is there; asking consumes nothing.</summary>
    public bool Has(string key) => values.TryGetProperty(key, out _);

    /// <summary>A number; <paramref name="missing"/>, the program's own default, where the file leaves it out.</summary>
    public double Number(string key, double missing) => Take(key) is { } value ? value.GetDouble() : missing;

    /// <summary>A number that may be null (Python's None).</summary>
    public double? NumberOrNull(string key, double? missing) =>
        Take(key) is not { } value ? missing : value.ValueKind == JsonValueKind.Null ? null : value.GetDouble();

    /// <summary>True or false, or Apex's 1 or 0.</summary>
    public bool Flag(string key, bool missing) => Take(key) is not { } value ? missing : value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => value.GetInt32() != 0,
    };

    /// <summary>A text; null where the file says null.</summary>
    public string? Text(string key, string? missing = null) => Take(key) is { } value ? value.GetString() : missing;

    /// <summary>A pair such as the betas.</summary>
    public (double First, double Second) Pair(string key, double first, double second) =>
        Take(key) is { } value ? (value[0].GetDouble(), value[1].GetDouble()) : (first, second);

    /// <summary>The value as it stands, for what has a form of its own; null where the file leaves it out.</summary>
    public JsonElement? Element(string key) => Take(key);

    /// <summary>An object within, whose keys must be consumed as well.</summary>
    public HyperReader Section(string key)
    {
        var section = new HyperReader(Take(key) ?? throw new AssertionException($"{place} has no section '{key}'"), $"{place}.{key}");
        _sections.Add(section);
        return section;
    }

    /// <summary>Passes over choices of implementation that promise the same numbers.</summary>
    public void PassOver(params ReadOnlySpan<string> keys)
    {
        foreach (var key in keys)
        {
            _known.Add(key);
        }
    }

    /// <summary>Fails where the file switches something on that we have no counterpart of.</summary>
    public void AssertOff(params ReadOnlySpan<string> keys)
    {
        foreach (var key in keys)
        {
            Assert.That(Flag(key, false), Is.False, $"{place}: '{key}', which has no counterpart");
        }
    }

    /// <summary>Fails where the file says something that nobody asked for.</summary>
    public void AssertAllConsumed()
    {
        var unknown = values.EnumerateObject().Select(entry => entry.Name).Where(key => !_known.Contains(key));
        Assert.That(unknown, Is.Empty, $"{place}: settings that the replay doesn't know");
        _sections.ForEach(section => section.AssertAllConsumed());
    }

    private JsonElement? Take(string key)
    {
        _known.Add(key);
        return values.TryGetProperty(key, out var value) ? value : null;
    }
}
