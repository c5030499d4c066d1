using System.Text.Json;
using System.Text.Json.Serialization;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

/// <summary>A run of a reference optimizer: initial values, the gradients of each step, and the values after it. Its source names program and version.</summary>
public sealed record OptimizerGolden(
    [property: JsonPropertyName("dtype")] string TypeName,
    JsonElement Hyper,
    [property: JsonPropertyName("lr_schedule")] double[]? Schedule,
    [property: JsonPropertyName("params")] OptimizerGolden.Start[] Starts,
    [property: JsonPropertyName("grads")] double[][][] Gradients,
    double[][][] Expected)
{
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    public sealed record Start(long[] Shape, double[] Initial);

    public DType Type => TypeName == "float32" ? DType.Float32 : DType.Float64;

    public int Steps => Gradients.Length;

    public static OptimizerGolden Read(string name) => JsonSerializer.Deserialize<OptimizerGolden>(
        File.ReadAllText(Path.Combine(TestContext.CurrentContext.TestDirectory, "Optimizers", "fixtures", $"{name}.json")), Json)!;

    public double LearningRate(int step) => Schedule?[step] ?? Number("lr", 0);

    public double Number(string key, double missing) => Hyper.TryGetProperty(key, out var value) ? value.GetDouble() : missing;

    public bool Flag(string key) => Hyper.TryGetProperty(key, out var value) && value.GetBoolean();

    public double Beta(int index) => Hyper.GetProperty("betas")[index].GetDouble();

    public LogicalParameter[] Parameters() =>
        [.. Starts.Select((start, i) => new LogicalParameter($"p{i}", ParameterKind.Matrix, Values(start.Initial, start.Shape), Tensor.Zeros(start.Shape, Type)))];

    public Tensor Gradient(int step, int parameter) => Values(Gradients[step][parameter], Starts[parameter].Shape);

    private Tensor Values(double[] values, long[] shape) => Tensor.From(values, shape).To(Type).Clone();
}
