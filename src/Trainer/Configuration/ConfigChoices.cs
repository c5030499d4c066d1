using System.Reflection;
using System.Text.Json;

namespace Moe.Training.Configuration;

/// <summary>The YAML spelling of enum members: <see cref="SpellingAttribute"/>, else the name in snake_case.</summary>
internal static class ConfigChoices
{
    public static IEnumerable<string> Of(Type type) => Enum.GetNames(type).Select(n => Spelling(type, n));

    public static string Spelling(Enum value) => Spelling(value.GetType(), value.ToString());

    /// <returns>The member spelt <paramref name="text"/>, exactly; null where there is none.</returns>
    public static object? Parse(Type type, string text) =>
        Enum.GetNames(type).FirstOrDefault(n => Spelling(type, n) == text) is { } name ? Enum.Parse(type, name) : null;

    private static string Spelling(Type type, string member) =>
        type.GetField(member)?.GetCustomAttribute<SpellingAttribute>()?.Text ?? JsonNamingPolicy.SnakeCaseLower.ConvertName(member);
}
