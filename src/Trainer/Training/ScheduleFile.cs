using System.Text.Json;
using System.Text.Json.Serialization;
using Moe.Optimizers;

namespace Moe.Training;

/// <summary>A refined schedule as a file: what <c>launch schedule refine</c> writes and <c>schedule.file</c> names.</summary>
/// <param name="Source">Name of the run folder whose gradient norms it comes from.</param>
/// <param name="Steps">Length of that run.</param>
/// <param name="Exponent">Of 1/norm in the weights: 2 or 1.</param>
/// <param name="Smooth">Width of the median filter as a share of the run.</param>
/// <param name="Rates">Shares of the peak, evenly spaced from the first step to the last.</param>
public sealed record ScheduleFile(string Source, long Steps, int Exponent, double Smooth, IReadOnlyList<double> Rates)
{
    /// <summary>Name of its copy in a run folder.</summary>
    public const string FileName = "schedule.json";

    /// <summary>The curve.</summary>
    /// <exception cref="ArgumentException">The rates are no curve.</exception>
    public RefinedCurve Curve() => new(Rates);

    /// <summary>Reads and checks a file.</summary>
    /// <exception cref="TrainingException">It is missing, broken, or holds no curve.</exception>
    public static ScheduleFile Read(string path)
    {
        try
        {
            var file = JsonSerializer.Deserialize(File.ReadAllBytes(path), ScheduleJson.Default.ScheduleFile);
            if (file?.Rates is null)
            {
                throw new TrainingException($"'{path}' is no schedule: it has no rates");
            }

            _ = file.Curve();
            return file;
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new TrainingException($"the schedule '{path}' cannot be used: {e.Message.Split(" (Parameter")[0].TrimEnd('.')}");
        }
    }

    /// <summary>What <see cref="Read"/> reads.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, ScheduleJson.Default.ScheduleFile) + "\n";
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(ScheduleFile))]
internal sealed partial class ScheduleJson : JsonSerializerContext;
