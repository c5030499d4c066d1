namespace Moe.Launch.Sweeps;

/// <summary>Words for the state of a point.</summary>
internal static class PointStatus
{
    public const string Waiting = "waiting", Running = "running", Done = "done", Stopped = "stopped", Failed = "failed";
}
