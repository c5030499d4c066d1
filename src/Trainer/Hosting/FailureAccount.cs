namespace Moe.Training.Hosting;

/// <summary>Turns the exception that ended a rank into its <see cref="RankFailure"/>: exit code, words, and whether another rank is to blame.</summary>
internal static class FailureAccount
{
    public static RankFailure Of(Exception exception, int rank, long step) => exception switch
    {
        OutOfMemoryException => new RankFailure(
            rank, step, ExitCodes.Failed, "out of memory", Why: exception.Message, Try: "a smaller train.micro_batch or model.sequence_length, or fewer ranks"),
        IOException or UnauthorizedAccessException => new RankFailure(
            rank, step, ExitCodes.Failed, exception.Message, Try: "launch doctor   (disk space, write permission)"),
        _ => new RankFailure(rank, step, ExitCodes.Failed, exception.Message, Why: exception.InnerException?.Message),
    };
}
