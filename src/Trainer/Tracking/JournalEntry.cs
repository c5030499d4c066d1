using System.Text.Json.Serialization;

namespace Moe.Training.Tracking;

/// <summary>
/// One line of tracking.jsonl: a thing to tell to MLflow. To tell one twice is to tell it once: points carry their time, and everything else
/// replaces itself.
/// </summary>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "kind")]
[JsonDerivedType(typeof(MetricsEntry), "metrics")]
[JsonDerivedType(typeof(MachineEntry), "machine")]
[JsonDerivedType(typeof(ParametersEntry), "parameters")]
[JsonDerivedType(typeof(TagsEntry), "tags")]
[JsonDerivedType(typeof(ArtifactEntry), "artifact")]
[JsonDerivedType(typeof(StatusEntry), "status")]
internal abstract record JournalEntry;

/// <summary>A row of the training.</summary>
/// <param name="Time">Milliseconds since 1970, UTC.</param>
/// <param name="Step">Steps done.</param>
/// <param name="Values">By MLflow's keys.</param>
internal sealed record MetricsEntry(long Time, long Step, Dictionary<string, double> Values) : JournalEntry;

/// <summary>A sample of the machine's load.</summary>
/// <param name="Time">Milliseconds since 1970, UTC.</param>
/// <param name="Step">Number of the sample.</param>
/// <param name="Values">By MLflow's keys.</param>
internal sealed record MachineEntry(long Time, long Step, Dictionary<string, double> Values) : JournalEntry;

/// <summary>Parameters; each is given once.</summary>
internal sealed record ParametersEntry(Dictionary<string, string> Values) : JournalEntry;

/// <summary>Tags; a later one replaces an earlier.</summary>
internal sealed record TagsEntry(Dictionary<string, string> Values) : JournalEntry;

/// <summary>A file or folder to store with the run.</summary>
/// <param name="Path">Relative to the run folder, and to the run's artifacts.</param>
/// <param name="Time">Milliseconds since 1970, UTC.</param>
internal sealed record ArtifactEntry(string Path, long Time) : JournalEntry;

/// <summary>The run goes on, or has ended.</summary>
/// <param name="Status">One of <see cref="TrackedStatus"/>.</param>
/// <param name="Time">Milliseconds since 1970, UTC.</param>
internal sealed record StatusEntry(string Status, long Time) : JournalEntry;
