namespace Moe.Training.Tracking;

/// <summary>Sends a journal while training goes on, and keeps trying where the server is away.</summary>
internal sealed class BackgroundSender : IDisposable
{
    // Rows wait for others for so long.
    private static readonly TimeSpan Gathering = TimeSpan.FromSeconds(2);

    // A run that has ended waits for nothing else, and so asks more often.
    private static readonly TimeSpan LongestPauseAtEnd = TimeSpan.FromSeconds(1);

    private readonly JournalSender _sender;
    private readonly RetryPolicy _retry;
    private readonly Action<string> _warn;
    private readonly TimeProvider _time;
    private readonly CancellationTokenSource _giveUp = new();
    private readonly CancellationTokenSource _ending = new();
    private readonly Task _work;

    /// <summary>Starts to send.</summary>
    /// <param name="sender">Sends a journal once.</param>
    /// <param name="retry">Pauses between attempts.</param>
    /// <param name="warn">Told when the server goes away, when it comes back, and why nothing more is sent.</param>
    /// <param name="time">Measures the pauses.</param>
    public BackgroundSender(JournalSender sender, RetryPolicy retry, Action<string> warn, TimeProvider time)
    {
        (_sender, _retry, _warn, _time) = (sender, retry, warn, time);
        _work = Task.Run(RunAsync);
    }

    /// <summary>Why nothing more is sent, or why the last attempt failed; null where it did not.</summary>
    public string? Fault { get; private set; }

    /// <summary>Sends what is left, and stops.</summary>
    /// <param name="patience">The longest wait.</param>
    /// <returns>Whether MLflow has all that stands in the journal.</returns>
    public bool Finish(TimeSpan patience)
    {
        _ending.Cancel();
        var isWhole = _work.Wait(patience);
        _giveUp.Cancel();
        return isWhole && _sender.Pending == 0;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _giveUp.Cancel();
        _work.Wait(TimeSpan.FromSeconds(1)); // what it waits for ends with the token
        _giveUp.Dispose();
        _ending.Dispose();
    }

    private async Task RunAsync()
    {
        try
        {
            await SendAsync().ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (_giveUp.IsCancellationRequested)
        {
            // The rest is for `launch mlflow sync`.
        }
#pragma warning disable CA1031 // Training goes on whatever happens here; what was journalled is sent later.
        catch (Exception e)
#pragma warning restore CA1031
        {
            Fault = e is MlflowException ? e.Message : $"{e.GetType().Name}: {e.Message}";
            _warn($"nothing more is told to MLflow: {Fault}");
        }
    }

    private async Task SendAsync()
    {
        var failures = 0;
        while (true)
        {
            var isLast = _ending.IsCancellationRequested;
            var pause = Gathering;
            try
            {
                await _sender.SendAsync(_giveUp.Token).ConfigureAwait(false);
                if (failures > 0)
                {
                    _warn($"MLflow answers again and has all rows up to now, after {failures} attempt(s) in vain");
                }

                (failures, Fault) = (0, null);
                if (isLast)
                {
                    return;
                }
            }
            catch (MlflowException e) when (e.Fault == MlflowFault.Unavailable)
            {
                failures++;
                Fault = e.Message;
                if (failures == 1)
                {
                    _warn($"MLflow does not take rows: {e.Message}; they are kept in the run folder and sent when it does");
                }

                pause = _retry.Pause(failures, e.RetryAfter, Random.Shared.NextDouble());
                pause = isLast && pause > LongestPauseAtEnd ? LongestPauseAtEnd : pause;
            }

            await PauseAsync(pause, isLast).ConfigureAwait(false);
        }
    }

    // The end of the run cuts a pause short, once.
    private async Task PauseAsync(TimeSpan pause, bool isLast)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(_giveUp.Token, isLast ? CancellationToken.None : _ending.Token);
        try
        {
            await Task.Delay(pause, _time, either.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!_giveUp.IsCancellationRequested)
        {
            // Ended: the rest goes out now.
        }
    }
}
