using System.Text.Json;

namespace Moe.Launch.Sweeps;

/// <summary>A line that another process writes, or wrote until it was killed.</summary>
internal static class JsonLine
{
    /// <summary>The value that the line holds; null for anything but one, such as half a line.</summary>
    public static JsonElement? Parse(string line)
    {
        try
        {
            return JsonDocument.Parse(line).RootElement;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
