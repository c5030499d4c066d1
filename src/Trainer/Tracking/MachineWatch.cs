namespace Moe.Training.Tracking;

/// <summary>Samples the machine's load in equal intervals, on a thread of the pool.</summary>
internal sealed class MachineWatch : IDisposable
{
    private readonly MachineLoad _load;
    private readonly Action<Dictionary<string, double>> _told;
    private readonly int _samplesOfPoint;
    private readonly List<Dictionary<string, double>> _samples = [];
    private readonly Lock _lock = new();
    private readonly ITimer _timer;
    private bool _isDisposed;

    /// <param name="load">Disposed with this.</param>
    /// <param name="interval">Between two samples.</param>
    /// <param name="samplesOfPoint">Samples whose mean is one point.</param>
    /// <param name="told">Takes a point.</param>
    /// <param name="time">Measures the intervals.</param>
    public MachineWatch(MachineLoad load, TimeSpan interval, int samplesOfPoint, Action<Dictionary<string, double>> told, TimeProvider time)
    {
        (_load, _told, _samplesOfPoint) = (load, told, samplesOfPoint);
        _timer = time.CreateTimer(_ => Sample(), null, interval, interval);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _timer.Dispose();
        lock (_lock)
        {
            _isDisposed = true;
            _load.Dispose();
        }
    }

    private void Sample()
    {
        lock (_lock)
        {
            if (_isDisposed)
            {
                return;
            }

            try
            {
                _samples.Add(_load.Sample());
                if (_samples.Count >= _samplesOfPoint)
                {
                    _told(_samples[0].Keys.ToDictionary(key => key, key => Math.Round(_samples.Where(sample => sample.ContainsKey(key)).Average(sample => sample[key]), 1)));
                    _samples.Clear();
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException or KeyNotFoundException or InvalidOperationException)
            {
                _samples.Clear(); // a system whose /proc is another, or is going away: no load is told
            }
        }
    }
}
