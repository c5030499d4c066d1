using System.Text.Json;
using Moe.Training.Benchmarks;

namespace Moe.Launch.Terminal;

/// <summary>A benchmark of kernels as one JSON object.</summary>
internal static class KernelJson
{
    public static void Write(TextWriter output, KernelReport report) => JsonView.WriteObject(output, json =>
    {
        json.WriteString("bench", report.Bench);
        json.WriteNumber("ranks", report.Ranks);
        json.WriteNumber("copy_gb_per_s", report.CopyGbPerS);
        json.WriteNumber("product_tflops", report.ProductTflops);
        json.WriteNumber("ms_per_step", report.MsPerStep);
        json.WriteNumber("ceiling_ms_per_step", report.CeilingMsPerStep);
        json.WriteStartArray("kernels");
        foreach (var kernel in report.Kernels)
        {
            Write(json, kernel);
        }

        json.WriteEndArray();
    });

    private static void Write(Utf8JsonWriter json, KernelRow kernel)
    {
        json.WriteStartObject();
        json.WriteString("name", kernel.Name);
        json.WriteString("shape", kernel.Shape);
        json.WriteString("direction", kernel.Direction);
        json.WriteNumber("ms", kernel.Ms);
        json.WriteNumber("ms_p10", kernel.MsP10);
        json.WriteNumber("ms_p90", kernel.MsP90);
        json.WriteNumber("bytes", kernel.Bytes);
        json.WriteNumber("operations", kernel.Operations);
        json.WriteNumber("gb_per_s", kernel.GbPerS);
        json.WriteNumber("tflops", kernel.Tflops);
        json.WriteString("ceiling", kernel.Ceiling);
        json.WriteNumber("ceiling_ms", kernel.CeilingMs);
        json.WriteNumber("of_ceiling_pct", kernel.OfCeilingPct);
        json.WriteNumber("calls_per_step", kernel.CallsPerStep);
        json.WriteEndObject();
    }
}
