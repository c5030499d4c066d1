using Moe.Data;
using Moe.Distributed;
using Moe.Models;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;

namespace Moe.Training.Hosting;

/// <summary>Turns the exception that ended a rank into its <see cref="RankFailure"/>: exit code, words, and whether another rank is to blame.</summary>
internal static class FailureAccount
{
    private const string SmallerBatch = "a smaller train.micro_batch or model.sequence_length, or fewer ranks";

    private const string FewerRows =
        "model.moe.capacity_factor, which bounds what an expert takes; a larger balance.coefficient; a smaller train.micro_batch; or more ranks for the experts";

    public static RankFailure Of(Exception exception, int rank, long step) => Account(exception, rank, step) with { Stack = exception.ToString() };

    private static RankFailure Account(Exception exception, int rank, long step) => exception switch
    {
        ConfigException => new RankFailure(rank, step, ExitCodes.Usage, exception.Message, Try: "launch config show"),

        // Either the peer is gone, and has said or will say why; or it does not answer, and then nobody knows better than this rank.
        CommunicationException broken => new RankFailure(
            rank, step, ExitCodes.Communication, exception.Message, Where(broken), Why: exception.InnerException?.Message, Try: Remedy(broken), Secondary: true),
        ExpertMemoryException full => new RankFailure(rank, step, ExitCodes.Failed, "out of memory for the rows of experts", full.Where, exception.Message, FewerRows),
        CheckpointException => new RankFailure(rank, step, ExitCodes.Checkpoint, exception.Message, Why: exception.InnerException?.Message),
        TrainingException failed => new RankFailure(rank, step, ExitCodes.Failed, exception.Message, Try: failed.Remedy),
        DataException => new RankFailure(rank, step, ExitCodes.Failed, exception.Message, Why: exception.InnerException?.Message),
        OutOfMemoryException => new RankFailure(rank, step, ExitCodes.Failed, "out of memory", Why: exception.Message, Try: SmallerBatch),
        _ when DiskFault.IsOne(exception) => new RankFailure(
            rank, step, ExitCodes.Failed, exception.Message, Where: "a file of the run", Try: DiskFault.Remedy(exception) ?? "launch doctor   (disk space, write permission)"),
        _ => new RankFailure(
            rank, step, ExitCodes.Failed, $"{exception.GetType().Name}: {exception.Message}", Origin(exception), exception.InnerException?.Message),
    };

    private static string? Where(CommunicationException broken) =>
        broken.Operation.Length == 0 ? null : $"{broken.Operation} of group {broken.Group}" + (broken.Layer is { } layer ? $", layer {layer}" : "");

    private static string? Remedy(CommunicationException broken) =>
        broken.TimedOut ? "where a rank was only slow: --set parallel.timeout_seconds=600" : null;

    // The innermost place in our own code; the whole stack is in the rank's log.
    private static string? Origin(Exception exception) => exception.StackTrace?
        .Split('\n', StringSplitOptions.TrimEntries)
        .FirstOrDefault(line => line.StartsWith("at Moe.", StringComparison.Ordinal))?["at ".Length..].Split(" in ")[0];
}
