using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>
/// Whether a Muon's steps are the file's. In float64 number by number; where the program orthogonalised in bfloat16, whose last bits differ between
/// libraries, each matrix's own step by direction, size and singular values, from the file's weights before it.
/// </summary>
internal sealed class MuonComparison(GoldenFile file, MuonSettings settings)
{
    private const double LeastCosine = 0.98;

    // A singular value that the iterations have raised thirtyfold brings its rounding to 1/256 along.
    private const double SizeTolerance = 0.15;

    // Of 3,600 random matrices of six shapes, rounded before and after the division by the norm, single values moved by up to 0.24 of the largest.
    private const double RangeTolerance = 0.25;

    // Products that are summed in another order, over five iterations that raise small singular values 3.4-fold each.
    private const double Float64 = 1e-9;

    // Rounding of weights, as a share of them.
    private const double Float32 = 1e-6;

    private double[][] _before = [];

    private bool IsRough => settings.ComputeType == DType.BFloat16;

    /// <summary>Takes the weights before a step: where bfloat16 is compared, those of the file, so that differences don't add up.</summary>
    public void Before(int step, LogicalParameter[] parameters)
    {
        if (!IsRough)
        {
            return;
        }

        _before = [.. file.Parameters.Select((parameter, i) => step == 0 ? parameter.Initial : file.Expected(step - 1, i))];
        foreach (var (parameter, values) in parameters.Zip(_before))
        {
            parameter.Value.CopyFrom_(Tensor.From(values, parameter.Value.Shape));
        }
    }

    /// <summary>Compares all parameters after a step.</summary>
    public void AssertReached(int step, LogicalParameter[] parameters)
    {
        if (!IsRough)
        {
            GoldenTolerance.AssertReached(file, step, parameters, GoldenTolerance.Of(file, Float64));
            return;
        }

        using var scope = new TensorScope();
        foreach (var (i, parameter) in parameters.Index())
        {
            var actual = parameter.Value.To(DType.Float64);
            var expected = Tensor.From(file.Expected(step, i), parameter.Value.Shape);
            if (parameter.Value.Rank < 2)
            {
                Assert.That(actual.ToArray<double>(), Is.EqualTo(expected.ToArray<double>()).Within(Float32), $"{file}: step {step}, parameter {parameter.Key}");
                continue;
            }

            var kept = Tensor.From(_before[i], parameter.Value.Shape) * (1 - (file.LearningRate(step, settings.LearningRate) * settings.Muon.WeightDecay));
            foreach (var (ours, theirs) in Matrices(actual - kept).Zip(Matrices(expected - kept)))
            {
                AssertAlike(ours, theirs, Float32 * kept.Norm().Item(), $"{file}: step {step}, parameter {parameter.Key}");
            }
        }
    }

    private static Tensor[] Matrices(Tensor x) => x.Rank == 3 ? x.Unbind() : [x.View(x.Size(0), -1)];

    private static void AssertAlike(Tensor ours, Tensor theirs, double rounding, string place)
    {
        var (norm, expected) = (ours.Norm().Item(), theirs.Norm().Item());
        if (expected <= rounding)
        {
            Assert.That(norm, Is.LessThanOrEqualTo(rounding), $"{place}: size of a step along a gradient of zeros");
            return;
        }

        Assert.That((ours * theirs).Sum().Item() / (norm * expected), Is.GreaterThan(LeastCosine), $"{place}: cosine of the steps");
        Assert.That(norm, Is.EqualTo(expected).Within(SizeTolerance * expected), $"{place}: size of the step");
        var values = theirs.SingularValues().Values.ToArray<double>();
        var slack = RangeTolerance * values.Max();
        Assert.That(
            ours.SingularValues().Values.ToArray<double>(), Is.All.InRange(values.Min() - slack, values.Max() + slack), $"{place}: singular values of the step");
    }
}
