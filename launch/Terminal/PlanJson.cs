using System.Text.Json;
using Moe.Training.Planning;

namespace Moe.Launch.Terminal;

/// <summary>A plan as one JSON object: bytes, seconds, operations.</summary>
internal static class PlanJson
{
    public static void Write(TextWriter output, StepPlan plan, IReadOnlyList<(MemoryChoice Choice, StepPlan Plan)> choices, IReadOnlyList<StepPlan> others) => JsonView.WriteObject(output, json =>
    {
        WriteSummary(json, plan);
        json.WriteString("device", plan.Device.Name);
        json.WriteNumber("parameters_total", plan.Parameters.Total);
        json.WriteNumber("parameters_active", plan.Parameters.Active);
        json.WriteStartObject("memory_bytes");
        json.WriteNumber("process", plan.Memory.Process);
        foreach (var item in plan.Memory.Persistent)
        {
            json.WriteNumber(item.Kind, item.Bytes);
        }

        foreach (var item in plan.Memory.Activations)
        {
            json.WriteNumber($"activations {item.Kind}", item.Bytes);
        }

        json.WriteNumber("workspace", plan.Memory.Workspace);
        json.WriteNumber("late gradients", plan.Memory.LateGradients);
        json.WriteNumber("end of forward", plan.Memory.Forward);
        json.WriteNumber("fullest of backward", plan.Memory.Backward);
        json.WriteNumber("communication", plan.Memory.Communication);
        json.WriteNumber("update", plan.Memory.Update);
        json.WriteNumber("available", plan.Device.Memory);
        json.WriteEndObject();
        json.WriteStartArray("memory_choices");
        foreach (var (choice, other) in choices)
        {
            json.WriteStartObject();
            json.WriteString("recompute", choice.Recompute.ToString().ToLowerInvariant());
            json.WriteNumber("recompute_layers", choice.Layers);
            json.WriteBoolean("offload", choice.Offloads);
            json.WriteNumber("kept_bytes", other.Memory.Activations.Sum(item => item.Bytes));
            json.WriteNumber("peak_bytes", other.Memory.Peak);
            json.WriteNumber("step_s", other.StepTime);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("work");
        foreach (var item in plan.Work)
        {
            json.WriteStartObject();
            json.WriteString("kind", item.Kind);
            json.WriteNumber("seconds", item.Seconds * plan.Device.Sharing(plan.Ranks));
            json.WriteNumber("operations", item.Operations);
            json.WriteNumber("bytes", item.Bytes);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("collectives");
        foreach (var item in plan.Collectives)
        {
            json.WriteStartObject();
            json.WriteString("purpose", item.Purpose);
            json.WriteString("operation", item.Operation.ToString());
            json.WriteNumber("ranks", item.Ranks);
            json.WriteNumber("calls", item.Calls);
            json.WriteNumber("bytes", item.Bytes);
            json.WriteNumber("bytes_inside_node", item.Inside);
            json.WriteNumber("bytes_between_nodes", item.Between);
            json.WriteNumber("seconds", item.Seconds * plan.Device.Sharing(plan.Ranks));
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteNumber("work_s", plan.WorkTime);
        json.WriteNumber("communication_s", plan.CommunicationTime);
        json.WriteNumber("waiting_s", plan.WaitingTime);
        json.WriteStartArray("alternatives");
        foreach (var other in others)
        {
            json.WriteStartObject();
            WriteSummary(json, other);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    });

    public static void Write(TextWriter output, ScalingCurve curve) => JsonView.WriteObject(output, json =>
    {
        json.WriteNumber("global_batch", curve.GlobalBatch);
        foreach (var (name, points) in new[] { ("weak", curve.Weak), ("strong", curve.Strong) })
        {
            json.WriteStartArray(name);
            foreach (var point in points)
            {
                json.WriteStartObject();
                if (point.Plan is { } plan)
                {
                    WriteSummary(json, plan);
                }
                else
                {
                    json.WriteNumber("ranks", point.Ranks);
                    json.WriteBoolean("fits", false);
                }

                json.WriteEndObject();
            }

            json.WriteEndArray();
        }
    });

    private static void WriteSummary(Utf8JsonWriter json, StepPlan plan)
    {
        json.WriteNumber("ranks", plan.Ranks);
        json.WriteNumber("expert_parallel", plan.ExpertParallel);
        json.WriteNumber("replicas", plan.Ranks / plan.ExpertParallel);
        json.WriteNumber("micro_batch", plan.Config.Train.MicroBatch);
        json.WriteNumber("accumulation", plan.Config.Train.Accumulation);
        json.WriteBoolean("fits", plan.Fits);
        json.WriteNumber("peak_bytes", plan.Memory.Peak);
        json.WriteNumber("step_s", plan.StepTime);
        json.WriteNumber("tokens_per_s", plan.TokensPerSecond);
        json.WriteNumber("mfu_pct", 100 * plan.Utilisation);
        json.WriteString("bottleneck", plan.Bottleneck.What);
    }
}
