using System.Text.Json;
using Moe.Training.Hosting;
using Moe.Training.Tracking;

namespace Moe.Launch.Terminal;

/// <summary>How far MLflow has a run, in two words, from the files of the run folder alone.</summary>
internal sealed class TrackerLine(RunFolder folder)
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private DateTime _readAt;
    private string? _text;

    /// <summary>The words, looked up at most once a second; null where the run is not tracked.</summary>
    public string? Text
    {
        get
        {
            if (DateTime.UtcNow - _readAt > Interval)
            {
                _readAt = DateTime.UtcNow;
                _text = Read();
            }

            return _text;
        }
    }

    private string? Read()
    {
        try
        {
            if (TrackingState.Read(folder.TrackingStateFile) is not { } state)
            {
                return null;
            }

            var behind = File.Exists(folder.TrackingFile) ? new FileInfo(folder.TrackingFile).Length - state.Synced : 0;
            return state.RunId is null ? "mlflow not reached" : behind <= 0 ? "mlflow ok" : MetricText.Invariant($"mlflow {behind / 1024.0:F1} KiB queued");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            return _text; // it is just being replaced
        }
    }
}
