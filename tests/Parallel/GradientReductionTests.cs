using System.Globalization;
using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

[TestFixtureSource(typeof(Ranks), nameof(Ranks.Backends))]
public class GradientReductionTests(string backend)
{
    [TestCase(1, 1)]
    [TestCase(2, 1)]
    [TestCase(2, 2)]
    [TestCase(4, 2)]
    public void Dense_gradients_are_added_over_all_ranks_and_experts_over_their_replicas(int ranks, int expertParallel)
    {
        var seed = Random.Shared.Next(1 << 30);
        TestContext.Out.WriteLine($"seed {seed}");
        string[] arguments = [seed.ToString(CultureInfo.InvariantCulture), expertParallel.ToString(CultureInfo.InvariantCulture)];
        Ranks.Run(GradientScenarios.ReduceByTheRecord, arguments, ranks, backend);
    }

    [Test]
    public void Experts_on_two_ranks_have_the_golden_norm([Values(2, 4)] int ranks) => Ranks.Run(GradientScenarios.GoldenNorm, ranks, backend);

    [Test]
    public void Sums_start_under_the_last_backward([Values(2, 3)] int ranks) => Ranks.Run(GradientScenarios.StartUnderBackward, ranks, backend);

    [Test]
    public void One_NaN_on_one_rank_is_seen_by_all() => Ranks.Run(GradientScenarios.FindNotFinite, 3, backend);
}

public class GradientBucketTests
{
    [Test]
    public void Backward_adds_to_the_bucket_in_place_and_no_tensor_is_left()
    {
        using var world = new SingleProcessGroup(TimeSpan.FromSeconds(1));
        using var mesh = new DeviceMesh(world, 1);
        var before = Tensor.LiveCount;
        using (new TensorScope())
        {
            var x = new Parameter("x", Tensor.Ones([3]), ParameterKind.Matrix);
            using var reduction = new GradientReduction([x], mesh);
            var place = (nint)0;
            for (var step = 0; step < 3; step++)
            {
                using var inner = new TensorScope();
                reduction.Zero();
                var start = x.Value.Gradient!.DataPointer;
                Autograd.Backward((x.Value * 2).Sum());
                Autograd.Backward((x.Value * 3).Sum());
                reduction.Reduce(1);
                Assert.That(x.Value.Gradient!.DataPointer, Is.EqualTo(start));
                Assert.That(start, Is.EqualTo(step == 0 ? start : place));
                Assert.That(x.Value.Gradient!.ToArray<float>(), Is.All.EqualTo(5f));
                place = start;
            }
        }

        Assert.That(Tensor.LiveCount, Is.EqualTo(before));
    }

    [Test]
    public void Gradients_that_stand_elsewhere_or_are_missing_are_taken_in()
    {
        using var scope = new TensorScope();
        using var world = new SingleProcessGroup(TimeSpan.FromSeconds(1));
        using var mesh = new DeviceMesh(world, 1);
        var x = new Parameter("x", Tensor.Ones([2]), ParameterKind.Matrix);
        var y = new Parameter("y", Tensor.Ones([2]), ParameterKind.Matrix);
        using var reduction = new GradientReduction([x, y], mesh);
        for (var step = 1; step <= 2; step++)
        {
            (x.Value.Gradient, y.Value.Gradient) = (null, null);
            Autograd.Backward((x.Value * step).Sum());
            reduction.Reduce(0.5);
            Assert.That(x.Value.Gradient!.ToArray<float>(), Is.All.EqualTo(0.5f * step));
            Assert.That(y.Value.Gradient!.ToArray<float>(), Is.All.EqualTo(0f));
        }
    }
}
