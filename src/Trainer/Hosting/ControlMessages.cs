using System.Text.Json.Serialization;
using Moe.Training.Benchmarks;
using Moe.Training.Profiling;

namespace Moe.Training.Hosting;

/// <summary>
/// One line of the control channel between a rank and the launcher that started it: a JSON object whose <c>type</c> names the record.
/// </summary>
/// <remarks>
/// Two kinds of processes speak it to the launcher that leads a run: ranks, and the launchers of other nodes.
/// A rank opens with <see cref="HelloMessage"/>. It ends with <see cref="GoodbyeMessage"/> or <see cref="FailureMessage"/>; a channel that
/// closes without either means that the rank died. The launcher sends <see cref="StopMessage"/> and <see cref="AbortMessage"/> only.
/// The launcher of another node opens with <see cref="NodeHelloMessage"/>, starts its ranks when it gets <see cref="NodeStartMessage"/>, tells how
/// each of their processes ended (<see cref="RankEndMessage"/>), and stays until <see cref="OverMessage"/>. Its ranks speak to the leading launcher directly.
/// </remarks>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "type")]
[JsonDerivedType(typeof(HelloMessage), "hello")]
[JsonDerivedType(typeof(InfoMessage), "info")]
[JsonDerivedType(typeof(MetricsMessage), "metrics")]
[JsonDerivedType(typeof(KernelsMessage), "kernels")]
[JsonDerivedType(typeof(EventMessage), "event")]
[JsonDerivedType(typeof(TextMessage), "text")]
[JsonDerivedType(typeof(ProfileMessage), "profile")]
[JsonDerivedType(typeof(FailureMessage), "failure")]
[JsonDerivedType(typeof(GoodbyeMessage), "goodbye")]
[JsonDerivedType(typeof(StopMessage), "stop")]
[JsonDerivedType(typeof(AbortMessage), "abort")]
[JsonDerivedType(typeof(NodeHelloMessage), "node_hello")]
[JsonDerivedType(typeof(NodeStartMessage), "node_start")]
[JsonDerivedType(typeof(RankEndMessage), "rank_end")]
[JsonDerivedType(typeof(LeaveMessage), "leave")]
[JsonDerivedType(typeof(SignalMessage), "signal")]
[JsonDerivedType(typeof(OverMessage), "over")]
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

/// <summary>What a benchmark of kernels found; sent by rank 0.</summary>
/// <param name="Report">A row a kernel.</param>
public sealed record KernelsMessage(KernelReport Report) : ControlMessage;

/// <summary>Something that happened once, for events.jsonl.</summary>
/// <param name="Kind">One word: <c>checkpoint</c>, <c>evaluation</c>, <c>warning</c>, ...</param>
/// <param name="Step">Steps done when it happened.</param>
/// <param name="Text">What happened, for a reader.</param>
public sealed record EventMessage(string Kind, long Step, string Text) : ControlMessage;

/// <summary>A line for the user, shown as it is: a sample, a table of <c>verify</c>.</summary>
/// <param name="Line">The text, without a line end.</param>
public sealed record TextMessage(string Line) : ControlMessage;

/// <summary>Where a step goes; sent by rank 0 when the steps to be profiled are made.</summary>
/// <param name="Table">Of all ranks.</param>
public sealed record ProfileMessage(ProfileTable Table) : ControlMessage;

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

/// <summary>The first line of another node's launcher: who it is, and what it was started for.</summary>
/// <param name="Token">The secret that the launchers share, from MOE_RDZV_TOKEN; another one is refused.</param>
/// <param name="Node">Number of its node, from 1; the launcher of node 0 leads.</param>
/// <param name="Nodes">Number of nodes that it was told.</param>
/// <param name="ProcessesPerNode">Ranks a node that it was told.</param>
/// <param name="ProcessId">Process id on <paramref name="Host"/>.</param>
/// <param name="Host">Name of its machine.</param>
public sealed record NodeHelloMessage(string Token, int Node, int Nodes, int ProcessesPerNode, int ProcessId, string Host) : ControlMessage;

/// <summary>Tells another node's launcher to start its ranks.</summary>
/// <param name="Mode">First argument of the ranks.</param>
/// <param name="Backend">How they talk.</param>
/// <param name="Resume">What they continue from.</param>
/// <param name="RunFolder">The run folder, on a file system that all nodes see.</param>
/// <param name="StorePort">Port of the TCP store beside the leading launcher; null where none is needed.</param>
/// <param name="Threads">Threads of a rank; null where each node decides by its cores.</param>
/// <param name="ModeArguments">Further arguments of the ranks.</param>
public sealed record NodeStartMessage(
    string Mode,
    string Backend,
    string Resume,
    string RunFolder,
    int? StorePort,
    int? Threads,
    IReadOnlyList<string> ModeArguments) : ControlMessage;

/// <summary>A rank's process ended, as its node's launcher saw it.</summary>
/// <param name="Rank">World rank.</param>
/// <param name="ExitCode">128 + n after signal n.</param>
public sealed record RankEndMessage(int Rank, int ExitCode) : ControlMessage;

/// <summary>Someone asked the launcher of a node, for the second time, to leave at once.</summary>
/// <param name="Signal">Name of the signal.</param>
/// <param name="Number">Its number.</param>
public sealed record LeaveMessage(string Signal, int Number) : ControlMessage;

/// <summary>Has a node's launcher signal all its ranks' processes.</summary>
/// <param name="Number">Number of the signal.</param>
public sealed record SignalMessage(int Number) : ControlMessage;

/// <summary>The run is over: a node's launcher ends what is left of its ranks, and leaves with this code.</summary>
/// <param name="ExitCode">See <see cref="ExitCodes"/>.</param>
/// <param name="Reason">Why there was no run at all, for its console; null where the leading launcher tells how the run ended.</param>
public sealed record OverMessage(int ExitCode, string? Reason = null) : ControlMessage;

/// <summary>Serialisers of the control channel and of errors/rank_N.json, made at compile time.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals)]
[JsonSerializable(typeof(ControlMessage))]
[JsonSerializable(typeof(RankFailure))]
[JsonSerializable(typeof(RankFailure[]))]
internal sealed partial class ControlJson : JsonSerializerContext;
