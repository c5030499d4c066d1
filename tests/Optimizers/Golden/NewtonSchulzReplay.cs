using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>Newton-Schulz by itself: single matrices through the published coefficients, and the exact polar factor by decomposition.</summary>
public sealed partial class NewtonSchulzReplay : IGoldenReplay
{
    // Directions that bfloat16 loses in its rounding have no cosine worth comparing.
    private const double LeastShare = 1.0 / 32;

    // Polar Express raises a small singular value, and its rounding, some eightyfold.
    private const double SingularValueTolerance = 0.25;

    /// <inheritdoc/>
    public bool Understands(GoldenFile file) =>
        file.Source.Contains("zeropower_via_newtonschulz", StringComparison.Ordinal) && file.Root.TryGetProperty("cases", out var cases) && cases.ValueKind == JsonValueKind.Array;

    /// <inheritdoc/>
    public void Replay(GoldenFile file)
    {
        var hyper = file.ReadHyper();
        var prescale = hyper.Text("polar_prescale") ?? "";
        hyper.PassOver("keller", "dion_tuned", "polar_express"); // by the cases' names
        hyper.AssertAllConsumed();
        foreach (var (i, single) in file.Root.GetProperty("cases").EnumerateArray().Index())
        {
            using var scope = new TensorScope();
            long[] shape = [.. single.GetProperty("shape").EnumerateArray().Select(size => size.GetInt64())];
            var input = Tensor.From(GoldenFile.Numbers(single.GetProperty("input")), shape);
            foreach (var result in single.EnumerateObject().Where(entry => entry.Name is not ("shape" or "input" or "note") && entry.Value.ValueKind != JsonValueKind.Null))
            {
                var expected = Tensor.From(GoldenFile.Numbers(result.Value), shape);
                foreach (var (matrix, same) in Matrices(input).Zip(Matrices(expected)))
                {
                    Compare(matrix, result.Name, same, file.Hyper, prescale, $"{file}: case {i}, {result.Name}");
                }
            }
        }
    }

    private static Tensor[] Matrices(Tensor x) => x.View(-1, x.Size(-2), x.Size(-1)).Unbind();

    private static void Compare(Tensor input, string name, Tensor expected, JsonElement hyper, string prescale, string place)
    {
        if (name == "exact_polar_f64")
        {
            AssertNear(Polar(input), expected, place);
            return;
        }

        var parts = Result().Match(name);
        Assert.That(parts.Success, $"{place}: the name isn't understood");
        var method = Method(parts.Groups["table"].Value, hyper, prescale);
        if (parts.Groups["steps"].Success)
        {
            method = method with { Steps = int.Parse(parts.Groups["steps"].Value, CultureInfo.InvariantCulture) };
        }

        if (parts.Groups["type"].Value == "f64")
        {
            AssertNear(method.Orthogonalize(input), expected, place);
        }
        else
        {
            AssertAlike(input, (method with { Precision = DType.BFloat16 }).Orthogonalize(input), expected, place);
        }
    }

    private static NewtonSchulz Method(string table, JsonElement hyper, string prescale)
    {
        var rows = MuonSettings.Rows(hyper.GetProperty(table));
        var method = new NewtonSchulz { Table = rows, Steps = rows.Length };
        if (table != "polar_express")
        {
            return method;
        }

        var numbers = Prescale().Match(prescale);
        Assert.That(numbers.Success, $"prescale '{prescale}' isn't understood");
        return method with { Guard = NormGuard.Widened, Epsilon = double.Parse(numbers.Groups[1].Value, CultureInfo.InvariantCulture) };
    }

    // The sharp operator over the nuclear norm.
    private static Tensor Polar(Tensor input)
    {
        var batch = input.Unsqueeze(0).Clone();
        new SharpOperator().Replace(batch, batch.Unbind());
        return batch.Select(0, 0) / input.SingularValues().Values.Sum().Item();
    }

    private static void AssertNear(Tensor actual, Tensor expected, string place) =>
        Assert.That((actual - expected).Abs().Max().Item(), Is.LessThanOrEqualTo(1e-9 * expected.Abs().Max().Item()), place);

    private static void AssertAlike(Tensor input, Tensor actual, Tensor expected, string place)
    {
        var (left, values, right) = input.SingularValues();
        var norm = values.Norm().Item();
        var told = values.ToArray<double>().Count(value => value > LeastShare * norm);
        var (u, v) = (left.Narrow(1, 0, told), right.Narrow(0, 0, told).Transpose());
        var (ours, theirs) = (u.Transpose().MatMul(actual).MatMul(v), u.Transpose().MatMul(expected).MatMul(v));
        Assert.That((ours * theirs).Sum().Item() / (ours.Norm().Item() * theirs.Norm().Item()), Is.GreaterThan(0.98), $"{place}: cosine");
        Assert.That(ours.SingularValues().Values.ToArray<double>(), Is.EqualTo(theirs.SingularValues().Values.ToArray<double>()).Within(SingularValueTolerance), $"{place}: singular values");
    }

    [GeneratedRegex(@"^(?:ns(?<steps>\d+)_)?(?<table>keller|dion_tuned|polar_express)_(?<type>f64|bf16)$")]
    private static partial Regex Result();

    [GeneratedRegex(@"^X/\(1\.02\*\|\|X\|\|_F\+([0-9.e-]+)\)$")]
    private static partial Regex Prescale();
}
