using System.Globalization;
using Moe.Training.Planning;

namespace Moe.Launch.Terminal;

/// <summary>A plan as tables for people.</summary>
internal static class PlanText
{
    private const double MiB = 1 << 20;

    public static void Write(TextWriter output, StepPlan plan, IReadOnlyList<(MemoryChoice Choice, StepPlan Plan)> choices, IReadOnlyList<StepPlan> others)
    {
        void Line(FormattableString text) => output.WriteLine(text.ToString(CultureInfo.InvariantCulture));

        var train = plan.Config.Train;
        Line($"{plan.Config.Run.Name}: {MetricText.Size(plan.Parameters.Total)} parameters, {MetricText.Size(plan.Parameters.Active)} active; {Counted(plan.Ranks, "rank")} ({Counted(plan.Nodes, "node")} x {plan.PerNode}), {Mesh(plan)}, {Batch(plan)}, {train.Precision.ToString().ToLowerInvariant()}");
        Line($"device {plan.Device.Name}: {plan.Device.Description}");
        Table(
            ["memory of the fullest rank", "MiB", ""],
            plan.Memory.Persistent.Prepend(new MemoryItem("process", plan.Memory.Process))
                .Concat(plan.Memory.Activations.Select(item => item with { Kind = $"kept for backward: {item.Kind}" }))
                .Append(new MemoryItem("workspace", plan.Memory.Workspace)).Append(new MemoryItem("communication buffers", plan.Memory.Communication)).Append(new MemoryItem("update", plan.Memory.Update))
                .Where(item => item.Bytes > 0)
                .Select(item => Row($"  {item.Kind}", $"{item.Bytes / MiB:0.0}", $""))
                .Append(Row($"  at the fullest moment", $"{plan.Memory.Peak / MiB:0.0}", $"{(plan.Fits ? "fits" : "does not fit")}: {(plan.Device.SharedCores is null ? "" : $"{Counted(plan.Ranks, "such rank")}, ")}{plan.NeededMemory / MiB:0} of {plan.Device.Memory / MiB:0}")));
        Table(
            ["what backward computes again (train.recompute)", "kept MiB", "peak MiB", "step ms"],
            choices.Select(pair => Row(
                $"{(pair.Choice == MemoryChoice.Of(plan.Config) ? "*" : " ")} {pair.Choice}",
                $"{pair.Plan.Memory.Activations.Sum(item => item.Bytes) / MiB:0.0}", $"{pair.Plan.Memory.Peak / MiB:0.0}", $"{1000 * pair.Plan.StepTime:0.0}")));
        var sharing = plan.Device.Sharing(plan.Ranks);
        Table(
            ["work of a rank and step", "ms", "share", "GFLOP", "MB"],
            plan.Work.Select(item => Row(
                $"  {item.Kind}", $"{1000 * item.Seconds * sharing:0.000}", $"{item.Seconds * sharing / plan.StepTime:P1}", $"{item.Operations / 1e9:0.0}", $"{item.Bytes / 1e6:0.0}")));
        if (plan.Ranks > 1)
        {
            Table(
                ["collectives of a rank and step", "ms", "share", "calls", "MB handed", "MB in node", "MB between nodes"],
                plan.Collectives.Select(item => Row(
                    $"  {item.Purpose} ({item.Ranks})", $"{1000 * item.Seconds * sharing:0.000}", $"{item.Seconds * sharing / plan.StepTime:P1}", $"{item.Calls:0.##}",
                    $"{item.Bytes / 1e6:0.000}", $"{item.Inside / 1e6:0.000}", $"{item.Between / 1e6:0.000}"))
                .Append(Row($"  waiting for the last rank", $"{1000 * plan.WaitingTime:0.000}", $"{plan.WaitingTime / plan.StepTime:P1}", $"", $"", $"", $"")));
        }

        var (what, seconds) = plan.Bottleneck;
        Line($"");
        Line($"step {1000 * plan.StepTime:0.0} ms   tokens/s {plan.TokensPerSecond:0}   {plan.OperationsPerSecond / 1e12:0.###} TFLOP/s a rank   MFU {plan.Utilisation:P1}");
        Line($"bottleneck: {what}, {1000 * seconds:0.0} ms ({seconds / plan.StepTime:P0} of the step)");
        if (others.Count > 0)
        {
            Table(
                ["other meshes that fit", "tokens/s", "peak MiB", "MFU"],
                others.Select(other => Row($"  {Mesh(other)}, {Batch(other)}", $"{other.TokensPerSecond:0}", $"{other.Memory.Peak / MiB:0.0}", $"{other.Utilisation:P1}")));
        }

        void Table(string[] head, IEnumerable<string[]> rows)
        {
            output.WriteLine();
            foreach (var line in TextTable.Lines([head, .. rows], int.MaxValue, [.. Enumerable.Range(1, head.Length - 1).Where(column => head[column].Length > 0)]))
            {
                output.WriteLine(line);
            }
        }
    }

    public static void Write(TextWriter output, ScalingCurve curve)
    {
        foreach (var (name, points) in new[] { ("weak", curve.Weak), ("strong", curve.Strong) })
        {
            foreach (var point in points)
            {
                output.WriteLine(point.Plan is { } plan
                    ? MetricText.Invariant($"{name} ranks={point.Ranks} tokens_per_s={plan.TokensPerSecond:0} mfu_pct={100 * plan.Utilisation:0.0} step_ms={1000 * plan.StepTime:0.0} expert_parallel={plan.ExpertParallel} micro_batch={plan.Config.Train.MicroBatch} accumulation={plan.Config.Train.Accumulation} peak_gib={plan.Memory.Peak / MiB / 1024:0.0} bottleneck=\"{plan.Bottleneck.What}\"")
                    : MetricText.Invariant($"{name} ranks={point.Ranks} fits=false"));
            }
        }
    }

    private static string[] Row(params FormattableString[] cells) => [.. cells.Select(cell => cell.ToString(CultureInfo.InvariantCulture))];

    private static string Counted(int number, string thing) => MetricText.Invariant($"{number} {thing}{(number == 1 ? "" : "s")}");

    private static string Mesh(StepPlan plan) => MetricText.Invariant($"replica {plan.Ranks / plan.ExpertParallel} x expert {plan.ExpertParallel}");

    private static string Batch(StepPlan plan) => MetricText.Invariant($"micro-batch {plan.Config.Train.MicroBatch} x {plan.Config.Train.Accumulation}");
}
