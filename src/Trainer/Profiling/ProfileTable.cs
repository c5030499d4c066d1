using System.Text.Json;
using System.Text.Json.Serialization;
using Moe.Training.Hosting;

namespace Moe.Training.Profiling;

/// <summary>What one part of a step takes: milliseconds a step, without the parts inside it.</summary>
/// <param name="Part">Its name.</param>
/// <param name="Ms">Of the first rank.</param>
/// <param name="SlowestMs">Of the rank that takes longest.</param>
/// <param name="SlowestRank">That rank.</param>
/// <param name="SharePct">Percent of the step, of the first rank.</param>
/// <param name="Calls">How often a step of the first rank comes to it; of a backward, how many nodes of the graph.</param>
/// <param name="WaitingMs">How much of <paramref name="Ms"/> the first rank was blocked for others.</param>
/// <param name="DeviceMs">Time of the first rank's device; null without one.</param>
/// <param name="SlowestDeviceMs">Time of the device that takes longest; null without one.</param>
public sealed record ProfilePart(
    string Part,
    double Ms,
    double SlowestMs,
    int SlowestRank,
    double SharePct,
    double Calls,
    double WaitingMs,
    double? DeviceMs = null,
    double? SlowestDeviceMs = null);

/// <summary>Where a step goes. The parts, the last of which is what lies between all others, add up to the step.</summary>
/// <param name="FirstStep">First profiled step.</param>
/// <param name="LastStep">Last profiled step.</param>
/// <param name="Ranks">Number of ranks.</param>
/// <param name="Step">The whole step.</param>
/// <param name="Parts">In the order in which the first rank comes to them.</param>
/// <param name="Beside">What happened between the steps, such as an evaluation: milliseconds each, none of them in the step.</param>
/// <param name="TraceFile">The trace, where it was written; null where that failed.</param>
public sealed record ProfileTable(
    long FirstStep, long LastStep, int Ranks, ProfilePart Step, IReadOnlyList<ProfilePart> Parts, IReadOnlyList<ProfilePart> Beside, string? TraceFile = null)
{
    /// <summary>Name of what no part covers.</summary>
    public const string Rest = "between the parts";

    /// <summary>The table as text.</summary>
    [JsonIgnore]
    public IReadOnlyList<string> Lines => ProfileText.Of(this);

    /// <summary>Writes the table as an object.</summary>
    public void WriteTo(Utf8JsonWriter json) => JsonSerializer.Serialize(json, this, ControlJson.Default.ProfileTable);
}
