using System.Diagnostics;
using System.Globalization;
using Moe.Distributed;
using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using Moe.Training.Profiling;

namespace Moe.Training;

/// <summary>How a training ended.</summary>
public enum TrainingEnd
{
    /// <summary>All steps are done.</summary>
    Finished,

    /// <summary>Stopped before the last step, after saving.</summary>
    Stopped,
}

/// <summary>
/// The loop of a rank: steps, and between them what is due of logging, evaluation and checkpoints. Every rank makes the same decisions
/// at the same step, because all that they rest on is the same on every rank.
/// </summary>
/// <param name="session">All that the loop steps.</param>
/// <param name="link">Whoever watches this rank.</param>
/// <param name="rows">Where rows go; null on every rank but the first.</param>
public sealed class TrainingLoop(TrainingSession session, SupervisorLink link, RunRows? rows)
{
    /// <summary>When a row was written, in milliseconds since 1970, UTC.</summary>
    public const string TimeKey = "unix_ms";

    /// <summary>Profiles some of the steps; null for none. Stays the caller's.</summary>
    public StepProfiler? Profiler { get; init; }

    /// <summary>Told where a step goes, on the first rank.</summary>
    public Action<ProfileTable>? Profiled { get; init; }

    private readonly TrainConfig _train = session.Config.Train;
    private readonly Stopwatch _sinceRow = new();
    private readonly RankMeter _meter = new(
        session.Mesh.World.Trace, session.Batches, session.Step, session.Device.IsCuda ? () => session.PeakDeviceBytes : null);

    private readonly double _operationsPerToken = session.Parameters.OperationsPerToken(session.Config.Model);
    private double _peakRate;
    private long _stepsSinceRow;
    private TimeSpan _optimizerSinceRow;
    private TimeSpan _allToAllBefore;
    private TimeSpan _readBefore;

    /// <summary>Runs from the session's position to the last step, or until a stop is asked for.</summary>
    /// <exception cref="TrainingException">Too many steps in a row had a gradient that was not finite.</exception>
    public TrainingEnd Run()
    {
        // The step that begins is the one that a failure is reported with.
        var trace = session.Mesh.World.Trace;
        _meter.Pause();
        _peakRate = PeakRate.Of(session.Config.Train, session.Mesh.World, session.Device);
        _meter.Resume();
        Restart(trace);
        if (rows is not null && session.Optimizer is Mkor mkor)
        {
            mkor.Switched += (step, reason) => link.ReportEvent("mkor_switch", step + 1, reason);
        }

        while (session.Step < _train.Steps)
        {
            var number = session.Step + 1;
            trace.Step = number;
            if (Profiler?.BeginsBefore(number) is true)
            {
                Aside(() => Profiler.Begin(number), trace);
            }

            var due = Advance(number, trace);
            if (due.Evaluation)
            {
                Aside("evaluation", Evaluate, trace);
            }

            if (due.Checkpoint)
            {
                Aside("checkpoint", Save, trace);
            }

            if (Profiler?.EndsBehind(number, due.Stop) is true)
            {
                Aside(() => EndProfile(number, due.Stop), trace);
            }

            if (due.Stop)
            {
                return TrainingEnd.Stopped;
            }
        }

        return TrainingEnd.Finished;
    }

    private Due Advance(long number, CollectiveTrace trace)
    {
        using var span = StepProfiler.OpenStep(number);
        var result = session.Advance(link.StopRequested, IsLogged(_train, number) ? _meter : null);
        _stepsSinceRow++;
        _optimizerSinceRow += result.OptimizerTime;
        RefuseToGoOn(result);
        var due = new Due(_train, session.Step, result.Stop);
        if (due.Row || !result.Updated)
        {
            using var logging = Spans.Open("logging");
            WriteRow(result, trace);
        }

        return due;
    }

    private void EndProfile(long step, bool isLast)
    {
        if (Profiler!.End(step, isLast) is { } table)
        {
            Profiled?.Invoke(table);
        }
    }

    private void RefuseToGoOn(StepResult result)
    {
        if (rows is not null && !result.Updated)
        {
            link.ReportEvent("skipped_step", session.Step, string.Create(
                CultureInfo.InvariantCulture,
                $"no update: loss {result.Loss:G6}, gradient norm {result.GradientNorm:G6}{(result.NotFinite is null ? "" : $", first in {result.NotFinite}")}"));
        }

        if (session.SkippedInARow > _train.MaxSkippedSteps)
        {
            throw new TrainingException(
                $"{session.SkippedInARow} steps in a row had a loss or gradient that is not finite"
                + $"{(result.NotFinite is null ? "" : $", first in '{result.NotFinite}'")}",
                "a lower optimizer.learning_rate, a longer schedule.warmup_steps, or train.precision=float32");
        }
    }

    private void Aside(string name, Action work, CollectiveTrace trace)
    {
        using var span = Spans.Open(name);
        Aside(work, trace);
    }

    // What is no part of a step is not counted as one.
    private void Aside(Action work, CollectiveTrace trace)
    {
        _meter.Pause();
        work();
        _meter.Resume();
        Restart(trace);
    }

    private void Restart(CollectiveTrace trace)
    {
        _allToAllBefore = trace.Totals(Collective.AllToAll).Waited;
        _readBefore = session.Batches.ReadTime;
        _sinceRow.Restart();
        _stepsSinceRow = 0;
        _optimizerSinceRow = TimeSpan.Zero;
    }

    private void WriteRow(StepResult result, CollectiveTrace trace)
    {
        var seconds = _sinceRow.Elapsed.TotalSeconds / _stepsSinceRow;
        var operations = _operationsPerToken * session.Batches.TokensPerStep / seconds;
        var allToAll = (trace.Totals(Collective.AllToAll).Waited - _allToAllBefore) / _stepsSinceRow;
        var row = new Dictionary<string, double>
        {
            ["step"] = session.Step,
            [TimeKey] = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds(),
            ["train/loss"] = result.Loss,
            ["train/balance_loss"] = result.BalanceLoss,
            ["train/z_loss"] = result.ZLoss,
            ["train/grad_norm"] = result.GradientNorm,
            ["train/lr"] = session.LearningRate,
            ["train/tokens"] = session.ConsumedTokens,
            ["train/skipped"] = session.SkippedInARow,
            ["perf/tokens_per_s"] = session.Batches.TokensPerStep / seconds,
            ["perf/step_ms"] = 1000 * seconds,
            ["perf/tflops_per_rank"] = operations / session.Mesh.World.Size / 1e12,
            ["perf/mfu_pct"] = 100 * operations / _peakRate,
            ["perf/all_to_all_ms"] = allToAll.TotalMilliseconds,
            ["perf/all_to_all_share"] = allToAll.TotalSeconds / seconds,
            ["perf/data_ms"] = (session.Batches.ReadTime - _readBefore).TotalMilliseconds / _stepsSinceRow,
            ["perf/optimizer_ms"] = _optimizerSinceRow.TotalMilliseconds / _stepsSinceRow,
            ["moe/load_max_over_mean"] = result.Load.MaxOverMean,
            ["moe/dead_experts"] = result.Load.Dead,
            ["moe/dropped"] = result.Dropped,
        };
        if (result.Ranks is { } ranks)
        {
            row[RankMeter.PeakMemory] = ranks[RankMeter.PeakMemory].Max();
            row[RankMeter.PeakCompute] = ranks[RankMeter.PeakCompute].Max();
        }

        if (rows is not null)
        {
            rows.Append(row);
            rows.AppendLoad(session.Step, result.Load);
            if (result.Ranks is not null)
            {
                rows.AppendRanks(session.Step, result.Ranks);
            }

            link.ReportMetrics(row, result.Load.Relative(), result.Ranks);
        }

        Restart(trace);
    }

    private void Evaluate()
    {
        var evaluation = session.Evaluator.Run();
        var row = new Dictionary<string, double>
        {
            ["step"] = session.Step,
            [TimeKey] = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds(),
            ["train/tokens"] = session.ConsumedTokens,
            ["eval/loss"] = evaluation.Loss,
            ["eval/tokens"] = evaluation.Domains.Sum(domain => domain.Tokens),
        };
        if (evaluation.Domains.Count > 1)
        {
            foreach (var domain in evaluation.Domains)
            {
                row[MetricKeys.LossOf(domain.Name)] = domain.Loss;
            }
        }

        if (rows is not null)
        {
            rows.Append(row);
            rows.AppendDomains(session.Step, evaluation, session.Model.Options.Moe.Experts);
            link.ReportMetrics(row);
        }
    }

    private void Save()
    {
        var time = Stopwatch.StartNew();
        var folder = session.Save();
        if (rows is not null)
        {
            link.ReportEvent("checkpoint", session.Step, string.Create(
                CultureInfo.InvariantCulture, $"{Path.GetFileName(folder)} written in {time.Elapsed.TotalSeconds:F2} s"));
        }
    }

    private static bool IsLogged(TrainConfig train, long step) =>
        step == train.Steps || step == train.StopAtStep || step % train.LogEvery == 0 || step == 1;

    /// <summary>What follows a step.</summary>
    private readonly record struct Due(TrainConfig Train, long Step, bool StopAsked)
    {
        private bool Last => Step == Train.Steps;

        public bool Stop => (StopAsked || Step == Train.StopAtStep) && !Last;

        public bool Row => Stop || IsLogged(Train, Step);

        // A planned stop leaves the same rows as none; whoever asks for one is not kept waiting.
        public bool Evaluation => Train.EvalEvery > 0 && (Last || (!StopAsked && Step % Train.EvalEvery == 0));

        public bool Checkpoint => Stop || Last || (Train.CheckpointEvery > 0 && Step % Train.CheckpointEvery == 0);
    }
}
