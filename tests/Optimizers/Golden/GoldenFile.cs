using System.Text.Json;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>A parameter of a golden file.</summary>
public sealed record GoldenParameter(string Name, long[] Shape, double[] Initial);

/// <summary>
/// A run of a published optimizer: where the numbers come from, its settings, initial values, the gradients of each step and the values
/// after it. What only some files have stands in <see cref="Root"/>.
/// </summary>
public sealed class GoldenFile
{
    private const string QuadraticGradient = "grad = h * (w - target), elementwise";
    private readonly string _name;

    private GoldenFile(string name, JsonElement root)
    {
        (_name, Root) = (name, root);
        Parameters = root.TryGetProperty("params", out var parameters) ? Read(parameters) : [];
    }

    /// <summary>The whole file.</summary>
    public JsonElement Root { get; }

    /// <summary>Repository, commit and path of the program that made the numbers; tells the optimizer and its variant.</summary>
    public string Source => Root.GetProperty("source").GetString()!;

    /// <summary>The program's settings, in its own names.</summary>
    public JsonElement Hyper => Root.GetProperty("hyper");

    /// <summary>What its author says of how near one can come; empty where nothing is said.</summary>
    public string ToleranceHint => Text("tolerance_hint");

    /// <summary>Type of the weights.</summary>
    public DType Type => Text("dtype") switch
    {
        "float64" => DType.Float64,
        "float32" => DType.Float32,
        var other => throw new AssertionException($"{this}: dtype '{other}' isn't understood"),
    };

    /// <summary>In the file's order; empty where it has none.</summary>
    public IReadOnlyList<GoldenParameter> Parameters { get; }

    /// <summary>Number of steps.</summary>
    public int Steps => Root.GetProperty("expected").GetArrayLength();

    public static GoldenFile Parse(string name, string text)
    {
        using var document = JsonDocument.Parse(text);
        return new GoldenFile(name, document.RootElement.Clone());
    }

    /// <summary>A reader of the settings that remembers which it was asked for.</summary>
    public HyperReader ReadHyper() => new(Hyper, $"{this}: hyper");

    /// <summary>Learning rate of a step: the file's schedule, or else the setting.</summary>
    public double LearningRate(int step, double setting) => Root.TryGetProperty("lr_schedule", out var rates) ? rates[step].GetDouble() : setting;

    /// <summary>The parameters with their initial values and gradients of zeros, in the file's type; owned by the scope that is open.</summary>
    public LogicalParameter[] LogicalParameters() => [.. Parameters.Select(parameter => new LogicalParameter(
        parameter.Name,
        ParameterKind.Matrix,
        Values(parameter.Initial, parameter.Shape),
        Tensor.Zeros(parameter.Shape, Type)))];

    /// <summary>Writes the gradients of a step: the file's, or those of its quadratic at the present weights.</summary>
    /// <param name="step">From 0.</param>
    /// <param name="parameters">As many as the file's, in its order.</param>
    public void WriteGradients(int step, IReadOnlyList<LogicalParameter> parameters)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        foreach (var (i, parameter) in parameters.Index())
        {
            var gradient = Root.TryGetProperty("quadratic", out var quadratic)
                ? QuadraticAt(quadratic, i, parameter.Value)
                : Numbers(Root.GetProperty("grads")[step][i]);
            parameter.Gradient.CopyFrom_(Values(gradient, Parameters[i].Shape));
        }
    }

    /// <summary>The values of a parameter after a step.</summary>
    public double[] Expected(int step, int parameter) => Numbers(Root.GetProperty("expected")[step][parameter]);

    public override string ToString() => _name;

    /// <summary>Reads an array of numbers, of whatever depth, in row-major order.</summary>
    public static double[] Numbers(JsonElement array) => array.ValueKind == JsonValueKind.Array
        ? [.. array.EnumerateArray().SelectMany(Numbers)]
        : [array.GetDouble()];

    private double[] QuadraticAt(JsonElement quadratic, int parameter, Tensor weights)
    {
        Assert.That(quadratic.GetProperty("formula").GetString(), Is.EqualTo(QuadraticGradient), $"{this}: the quadratic's formula");
        var curvature = Numbers(quadratic.GetProperty("h")[parameter]);
        var target = Numbers(quadratic.GetProperty("target")[parameter]);
        return [.. weights.To(DType.Float64).ToArray<double>().Select((weight, i) => curvature[i] * (weight - target[i]))];
    }

    private Tensor Values(double[] values, long[] shape) => Tensor.From(values, shape).To(Type).Clone();

    private string Text(string key) => Root.TryGetProperty(key, out var text) ? text.GetString() ?? "" : "";

    private static GoldenParameter[] Read(JsonElement parameters) => parameters.ValueKind == JsonValueKind.Object
        ? [.. parameters.EnumerateObject().Select(entry => Read(entry.Name, entry.Value))]
        : [.. parameters.EnumerateArray().Select((entry, i) => Read($"p{i}", entry))];

    private static GoldenParameter Read(string name, JsonElement entry) => new(
        name,
        [.. entry.GetProperty("shape").EnumerateArray().Select(size => size.GetInt64())],
        Numbers(entry.GetProperty("initial")));
}
