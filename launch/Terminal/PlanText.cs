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
        Line($"{plan.Config.Run.Name}: {MetricText.Size(plan.Parameters.Total)} parameters, {MetricText.Size(plan.Parameters.Active)} active; {plan.Ranks} ranks ({plan.Nodes} nodes x {plan.PerNode}), {Mesh(plan)}, {Batch(plan)}, {train.Precision.ToString().ToLowerInvariant()}");
        Line($"device {plan.Device.Name}: {plan.Device.Description}");
        Line($"");
        Line($"memory of the fullest rank      MiB");
        foreach (var item in plan.Memory.Persistent.Prepend(new MemoryItem("process", plan.Memory.Process))
            .Concat(plan.Memory.Activations.Select(item => item with { Kind = $"kept for backward: {item.Kind}" }))
            .Append(new MemoryItem("workspace", plan.Memory.Workspace)).Append(new MemoryItem("communication buffers", plan.Memory.Communication)).Append(new MemoryItem("update", plan.Memory.Update))
            .Where(item => item.Bytes > 0))
        {
            Line($"  {item.Kind,-37} {item.Bytes / MiB,12:0.0}");
        }

        Line($"  {"at the fullest moment",-37} {plan.Memory.Peak / MiB,12:0.0}  {(plan.Fits ? "fits" : "does not fit")}: {(plan.Device.SharedCores is null ? "" : $"{plan.Ranks} such ranks, ")}{plan.NeededMemory / MiB:0} of {plan.Device.Memory / MiB:0}");
        Line($"");
        Line($"what backward computes again (train.recompute)    kept MiB    peak MiB   step ms");
        foreach (var (choice, other) in choices)
        {
            Line($"{(choice == MemoryChoice.Of(plan.Config) ? "*" : " "),2}{choice,-44} {other.Memory.Activations.Sum(item => item.Bytes) / MiB,11:0.0} {other.Memory.Peak / MiB,11:0.0} {1000 * other.StepTime,9:0.0}");
        }

        Line($"");
        Line($"work of a rank and step                      ms    share      GFLOP         MB");
        var sharing = plan.Device.Sharing(plan.Ranks);
        foreach (var item in plan.Work)
        {
            Line($"  {item.Kind,-32} {1000 * item.Seconds * sharing,12:0.000} {item.Seconds * sharing / plan.StepTime,8:P1} {item.Operations / 1e9,10:0.0} {item.Bytes / 1e6,10:0.0}");
        }

        if (plan.Ranks > 1)
        {
            Line($"");
            Line($"collectives of a rank and step               ms    share    calls   MB handed    MB in node  MB between nodes");
            foreach (var item in plan.Collectives)
            {
                Line($"  {$"{item.Purpose} ({item.Ranks})",-32} {1000 * item.Seconds * sharing,12:0.000} {item.Seconds * sharing / plan.StepTime,8:P1} {item.Calls,8:0.##} {item.Bytes / 1e6,11:0.000} {item.Inside / 1e6,13:0.000} {item.Between / 1e6,17:0.000}");
            }

            Line($"  {"waiting for the last rank",-32} {1000 * plan.WaitingTime,12:0.000} {plan.WaitingTime / plan.StepTime,8:P1}");
        }

        var (what, seconds) = plan.Bottleneck;
        Line($"");
        Line($"step {1000 * plan.StepTime:0.0} ms   tokens/s {plan.TokensPerSecond:0}   {plan.OperationsPerSecond / 1e12:0.###} TFLOP/s a rank   MFU {plan.Utilisation:P1}");
        Line($"bottleneck: {what}, {1000 * seconds:0.0} ms ({seconds / plan.StepTime:P0} of the step)");
        if (others.Count > 0)
        {
            Line($"");
            Line($"other meshes that fit                                 tokens/s    peak MiB    MFU");
            foreach (var other in others)
            {
                Line($"  {$"{Mesh(other)}, {Batch(other)}",-50} {other.TokensPerSecond,10:0} {other.Memory.Peak / MiB,11:0.0} {other.Utilisation,7:P1}");
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

    private static string Mesh(StepPlan plan) => MetricText.Invariant($"replica {plan.Ranks / plan.ExpertParallel} x expert {plan.ExpertParallel}");

    private static string Batch(StepPlan plan) => MetricText.Invariant($"micro-batch {plan.Config.Train.MicroBatch} x {plan.Config.Train.Accumulation}");
}
