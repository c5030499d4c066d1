using System.Text.Json;
using System.Text.Json.Serialization;
using Moe.Training.Configuration;

namespace Moe.Training.Checkpoints;

/// <summary>Writes numbers as <see cref="ConfigScalar.Exact"/> does: they read back as the same bits.</summary>
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

        writer.WriteRawValue(ConfigScalar.Exact(value));
    }
}
