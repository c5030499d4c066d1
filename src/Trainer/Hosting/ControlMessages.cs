using System.Text.Json.Serialization;

namespace Moe.Training.Hosting;

/// <summary>
/// One line of the control channel between a rank and the launcher that started it: a JSON object whose <c>type</c> names the record.
/// </summary>
/// <remarks>
/// A rank opens with <see cref="HelloMessage"/>. It ends with <see cref="GoodbyeMessage"/> or <see cref="FailureMessage"/>; a channel that
/// closes without either means that the rank died. The launcher sends <see cref="StopMessage"/> and <see cref="AbortMessage"/> only.
/// </remarks>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "type")]
[JsonDerivedType(typeof(HelloMessage), "hello")]
[JsonDerivedType(typeof(InfoMessage), "info")]
[JsonDerivedType(typeof(MetricsMessage), "metrics")]
[JsonDerivedType(typeof(EventMessage), "event")]
[JsonDerivedType(typeof(TextMessage), "text")]
[JsonDerivedType(typeof(FailureMessage), "failure")]
[JsonDerivedType(typeof(GoodbyeMessage), "goodbye")]
[JsonDerivedType(typeof(StopMessage), "stop")]
[JsonDerivedType(typeof(AbortMessage), "abort")]
public abstract record ControlMessage;

/// <summary>The first line of a rank.</summary>
/// <param name="Token">The secret of this run, from MOE_SUPERVISOR_TOKEN; another one is refused.</param>
/// <param name="Rank">World rank, from 0.</param>
/// <param name="ProcessId">Process id on <paramref name="Host"/>.</param>
/// <param name="Host">Name of the machine that the rank runs on.</param>
public sealed record HelloMessage(string Token, int Rank, int ProcessId, string Host) : ControlMessage;

/// <summary>What is known once the model stands; sent by rank 0 before its first step.</summary>
/// <param name="ParametersTotal">Logical parameters of the whole model, each counted once.</param>
/// <param name="ParametersActive">Parameters that one token passes through.</param>
/// <param name="Mesh">The mesh in words, such as <c>replica 2 x expert 2</c>.</param>
/// <param name="FirstStep">Steps already done when this run starts; 0 unless resumed.</param>
/// <param name="LastStep">Number of the last step of the whole training.</param>
/// <param name="ResumedFrom">Folder of the checkpoint continued from; null for a fresh start.</param>
public sealed record InfoMessage(
    long ParametersTotal,
    long ParametersActive,
    string Mesh,
    long FirstStep,
    long LastStep,
    string? ResumedFrom = null) : ControlMessage;

/// <summary>One row of metrics.jsonl; sent by rank 0.</summary>
/// <param name="Row">Values by key, <c>step</c> among them; keys and units as in metrics.jsonl.</param>
/// <param name="ExpertLoad">Tokens of each expert over their mean, averaged over the layers [E]; null where the row has none.</param>
/// <param name="Ranks">One row of ranks.jsonl: what each rank measured of itself, by <see cref="RankMeter"/>'s keys, each [ranks]; null where the row has none.</param>
public sealed record MetricsMessage(
    IReadOnlyDictionary<string, double> Row,
    IReadOnlyList<double>? ExpertLoad = null,
    IReadOnlyDictionary<string, double[]>? Ranks = null) : ControlMessage;

/// <summary>Something that happened once, for events.jsonl.</summary>
/// <param name="Kind">One word: <c>checkpoint</c>, <c>evaluation</c>, <c>warning</c>, ...</param>
/// <param name="Step">Steps done when it happened.</param>
/// <param name="Text">What happened, for a reader.</param>
public sealed record EventMessage(string Kind, long Step, string Text) : ControlMessage;

/// <summary>A line for the user, shown as it is: a sample, a table of <c>verify</c>.</summary>
/// <param name="Line">The text, without a line end.</param>
public sealed record TextMessage(string Line) : ControlMessage;

/// <summary>The rank cannot go on and is about to leave with a non-zero code.</summary>
/// <param name="Failure">Its account.</param>
public sealed record FailureMessage(RankFailure Failure) : ControlMessage;

/// <summary>The rank ends in order, all that it had to save being saved.</summary>
/// <param name="ExitCode">The code that it leaves with, see <see cref="ExitCodes"/>.</param>
public sealed record GoodbyeMessage(int ExitCode) : ControlMessage;

/// <summary>Asks a rank to finish its step, save, and leave with <see cref="ExitCodes.Stopped"/>.</summary>
/// <param name="Reason">What asked, such as <c>SIGINT</c>.</param>
public sealed record StopMessage(string Reason) : ControlMessage;

/// <summary>Tells a rank to leave at once, saving nothing.</summary>
/// <param name="Reason">Why, for the rank's log.</param>
public sealed record AbortMessage(string Reason) : ControlMessage;

/// <summary>Serialisers of the control channel and of errors/rank_N.json, made at compile time.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals)]
[JsonSerializable(typeof(ControlMessage))]
[JsonSerializable(typeof(RankFailure))]
internal sealed partial class ControlJson : JsonSerializerContext;
