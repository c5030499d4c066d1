namespace Moe.Training.Tracking;

/// <summary>Sends a journal while somebody waits for it, and tries again where the server is away.</summary>
internal static class ForegroundSender
{
    /// <summary>Sends all that stands in the journal.</summary>
    /// <param name="sender">Sends it once.</param>
    /// <param name="retry">Pauses between attempts.</param>
    /// <param name="patience">How long to try.</param>
    /// <returns>Why MLflow lacks something still; null where it has everything.</returns>
    /// <exception cref="IOException">mlflow.json or the journal cannot be written or read.</exception>
    public static async Task<string?> SendAsync(JournalSender sender, RetryPolicy retry, TimeSpan patience)
    {
        using var timeout = new CancellationTokenSource(patience);
        string? fault = null;
        try
        {
            for (var failures = 1; ; failures++)
            {
                try
                {
                    await sender.SendAsync(timeout.Token).ConfigureAwait(false);
                    return null;
                }
                catch (MlflowException e) when (e.Fault == MlflowFault.Unavailable)
                {
                    fault = e.Message;
                    await Task.Delay(retry.Pause(failures, e.RetryAfter, Random.Shared.NextDouble()), timeout.Token).ConfigureAwait(false);
                }
            }
        }
        catch (MlflowException e)
        {
            return e.Message;
        }
        catch (OperationCanceledException) when (timeout.IsCancellationRequested)
        {
            return fault ?? FormattableString.Invariant($"{sender.State.Uri} did not take everything within {patience.TotalSeconds:G3} s");
        }
    }
}
