using Moe.Training.Hosting;

namespace Moe.Launch.Runs;

/// <summary>Looks after the run folder while a run is in it: one that is deleted or moved away takes with it whatever the run would still write.</summary>
internal sealed class FolderWatch : IDisposable
{
    // A shared folder may be away for a moment.
    private const int Patience = 3;
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private readonly Timer _timer;
    private int _missing;

    /// <param name="folder">The run folder.</param>
    /// <param name="name">The same, as the user would write it.</param>
    /// <param name="lost">Called once when it has been away for three seconds.</param>
    public FolderWatch(RunFolder folder, string name, Action<RankFailure> lost) => _timer = new Timer(
        _ =>
        {
            _missing = Directory.Exists(folder.Path) ? 0 : _missing + 1;
            if (_missing == Patience)
            {
                lost(new RankFailure(
                    RankFailure.OfLauncher,
                    Step: 0,
                    ExitCodes.Failed,
                    $"the run folder '{name}' is gone: it was deleted or moved away while the run was in it",
                    Try: "the same command for a new run; a run that was moved continues with --run-dir and its new place"));
            }
        },
        state: null, Interval, Interval);

    public void Dispose() => _timer.Dispose();
}
