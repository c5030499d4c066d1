using System.Globalization;
using System.Text.RegularExpressions;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>How near the numbers must come, as a share of the parameter's largest entry.</summary>
/// <remarks>
/// An entry near zero is the difference of larger ones, and no program has more of its digits than the rounding of those leaves.
/// </remarks>
public static partial class GoldenTolerance
{
    /// <summary>The file's own hint of the form <c>rtol 2e-5</c>, or what its type allows.</summary>
    /// <param name="file">Names type and hint.</param>
    /// <param name="float64">What the optimizer's rule allows in float64.</param>
    public static double Of(GoldenFile file, double float64) => Relative().Match(file.ToleranceHint) is { Success: true } hint
        ? double.Parse(hint.Groups[1].Value, CultureInfo.InvariantCulture)
        : file.Type == DType.Float64 ? float64 : 1e-6;

    /// <summary>Compares all parameters after a step.</summary>
    /// <param name="file">Holds what is expected.</param>
    /// <param name="step">From 0.</param>
    /// <param name="parameters">In the file's order.</param>
    /// <param name="relative">Share of a parameter's largest entry.</param>
    public static void AssertReached(GoldenFile file, int step, IReadOnlyList<LogicalParameter> parameters, double relative)
    {
        using var scope = new TensorScope();
        foreach (var (i, parameter) in parameters.Index())
        {
            var expected = file.Expected(step, i);
            var actual = parameter.Value.To(DType.Float64).ToArray<double>();
            var largest = expected.Max(Math.Abs);
            Assert.That(actual, Is.EqualTo(expected).Within(relative * largest), $"{file}: step {step}, parameter {parameter.Key}");
        }
    }

    [GeneratedRegex(@"^rtol\s+([0-9.]+(?:[eE][-+]?[0-9]+)?)")]
    private static partial Regex Relative();
}
