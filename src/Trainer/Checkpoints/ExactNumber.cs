using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Moe.Training.Checkpoints;

/// <summary>Writes a number with 17 digits, which read back as the same bits. The shortest text that .NET 10 makes of 2^-25 and of 2^-958 does not.</summary>
internal sealed class ExactNumber : JsonConverter<double>
{
    /// <inheritdoc/>
    public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.GetDouble();

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The number is not finite, which JSON has no text for.</exception>
    public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
    {
        ArgumentNullException.ThrowIfNull(writer);
        if (!double.IsFinite(value))
        {
            throw new ArgumentException("JSON has no text for a number that is not finite", nameof(value));
        }

        writer.WriteRawValue(value.ToString("G17", CultureInfo.InvariantCulture));
    }
}
