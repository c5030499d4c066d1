using System.Diagnostics;
using System.Text.Json;

namespace Moe.Launch.Sweeps;

/// <summary>A point as it is known now: its record, and what its launcher has said since it was started.</summary>
/// <param name="point">Which.</param>
/// <param name="record">As an earlier command or this one left it.</param>
/// <param name="steps">Number of its last step.</param>
internal sealed class PointProgress(PlannedPoint point, PointRecord record, long steps)
{
    private readonly Stopwatch _clock = new();
    private TimeSpan _rowAt;
    private double _secondsPerStep;
    private int _rows;

    public PlannedPoint Point { get; } = point;

    public PointRecord Record { get; set; } = record;

    /// <summary>Number of the last step.</summary>
    public long Steps { get; } = steps;

    /// <summary>Training losses that its launcher has told, in order.</summary>
    public List<double> Losses { get; } = [];

    /// <summary>Last speed in tokens a second; null before the first row.</summary>
    public double? Speed { get; private set; }

    /// <summary>Time to the last step at the speed of the latest rows; null before two rows came.</summary>
    public TimeSpan? Remaining => Record.Status == PointStatus.Running && _secondsPerStep > 0 ? TimeSpan.FromSeconds(_secondsPerStep * (Steps - Record.Step)) : null;

    /// <summary>Its launcher starts.</summary>
    public void Begin()
    {
        Record = Record with { Status = PointStatus.Running, ExitCode = null, Error = null };
        _clock.Restart();
        _rowAt = TimeSpan.Zero;
        (_secondsPerStep, _rows) = (0, 0);
    }

    /// <summary>Its launcher has ended.</summary>
    /// <param name="exitCode">The launcher's.</param>
    /// <param name="status">One of <see cref="PointStatus"/>.</param>
    public void End(int exitCode, string status) => Record = Record with
    {
        Status = status,
        ExitCode = exitCode,
        Seconds = Math.Round(Record.Seconds + _clock.Elapsed.TotalSeconds, 1),
        Error = status == PointStatus.Failed ? Record.Error ?? $"its launcher left with {exitCode}" : null,
    };

    /// <summary>Takes in a line of its launcher.</summary>
    /// <param name="message">An object of <c>--ui json</c>.</param>
    /// <param name="metric">The sweep's metric.</param>
    /// <returns>Whether it changes what is shown.</returns>
    public bool Heard(JsonElement message, string metric)
    {
        switch (Text(message, "type"))
        {
            case "info":
                Record = Record with { Step = (long)(Number(message, "first_step") ?? 0) };
                _rowAt = _clock.Elapsed;
                return true;
            case "metrics":
                Row(message, metric);
                return true;
            case "end" when message.TryGetProperty("root_cause", out var cause):
                Record = Record with { Error = $"rank {Number(cause, "rank")}: {Text(cause, "what")}" };
                return false;
            default:
                return false;
        }
    }

    private void Row(JsonElement row, string metric)
    {
        var step = (long)(Number(row, "step") ?? Record.Step);
        if (step > Record.Step)
        {
            var seconds = (_clock.Elapsed - _rowAt).TotalSeconds / (step - Record.Step);
            // The first row has the start in it, and says nothing of the second.
            _secondsPerStep = _rows > 1 ? (0.8 * _secondsPerStep) + (0.2 * seconds) : seconds;
            _rows++;
            _rowAt = _clock.Elapsed;
        }

        if (Number(row, "train/loss") is { } loss)
        {
            Losses.Add(loss);
        }

        Speed = Number(row, "perf/tokens_per_s") ?? Speed;
        Record = Record with { Step = step, Loss = Number(row, "train/loss") ?? Record.Loss, Value = Number(row, metric) ?? Record.Value };
    }

    private static string? Text(JsonElement message, string name) =>
        message.ValueKind == JsonValueKind.Object && message.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    // JSON's null is a value that was not finite.
    private static double? Number(JsonElement message, string name) => !message.TryGetProperty(name, out var value) ? null
        : value.ValueKind == JsonValueKind.Number ? value.GetDouble()
        : value.ValueKind == JsonValueKind.Null ? double.NaN : null;
}
