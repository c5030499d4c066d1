namespace Moe.Training.Configuration;

/// <summary>The YAML spelling of a choice that isn't its C# name in snake_case.</summary>
/// <param name="text">As written in a configuration file, e.g. <c>adamw</c>.</param>
[AttributeUsage(AttributeTargets.Field)]
public sealed class SpellingAttribute(string text) : Attribute
{
    /// <summary>As written in a configuration file.</summary>
    public string Text { get; } = text;
}
