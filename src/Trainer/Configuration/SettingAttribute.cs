namespace Moe.Training.Configuration;

/// <summary>
/// Declares a property of a configuration record as a key: what it means, and which values it takes. The reader's checks,
/// <c>config show</c> and docs/configuration.md all read this one declaration; the default is the property's initializer.
/// </summary>
/// <param name="meaning">One sentence for the user, with the unit.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SettingAttribute(string meaning) : Attribute
{
    /// <summary>One sentence for the user, with the unit.</summary>
    public string Meaning { get; } = meaning;

    /// <summary>Smallest value; NaN where there is none.</summary>
    public double AtLeast { get; init; } = double.NaN;

    /// <summary>The value must exceed this; NaN where there is no such bound.</summary>
    public double Above { get; init; } = double.NaN;

    /// <summary>Largest value; NaN where there is none.</summary>
    public double AtMost { get; init; } = double.NaN;

    /// <summary>The value must stay under this; NaN where there is no such bound.</summary>
    public double Below { get; init; } = double.NaN;

    /// <summary>What the default comes to, for a key whose default isn't a fixed value.</summary>
    public string? Default { get; init; }

    /// <summary>The choice that makes this key count, as <c>section.key=value|value</c>, or
    /// <c>section.key</c> for one that is not null; setting the key without it earns a warning.</summary>
    public string? When { get; init; }

    /// <summary>Whether the text names a file or folder, relative to the folder of the configuration file that says it.</summary>
    public bool IsPath { get; init; }

    /// <summary>Whether the text is a URI, whose form <c>file:PATH</c> names a folder, relative to the folder of the configuration file that says it.</summary>
    public bool IsUri { get; init; }

    /// <summary>Whether the text becomes part of a folder's or a metric's name: letters, digits, '.', '_' and '-', at most 64 of them.</summary>
    public bool IsName { get; init; }
}
