using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

public class LocalDispatcherTests
{
    private int _seed;

    [SetUp]
    public void Draw()
    {
        _seed = Random.Shared.Next();
        TestContext.Out.WriteLine($"seed {_seed}");
    }

    [TestCase(13, 2, 5, Choices.Random)]
    [TestCase(13, 1, 5, Choices.Random)]
    [TestCase(9, 5, 5, Choices.Random)]
    [TestCase(9, 1, 1, Choices.Random)]
    [TestCase(13, 3, 6, Choices.SomeDropped)]
    [TestCase(4, 2, 6, Choices.AllDropped)]
    [TestCase(13, 2, 5, Choices.AllToOneExpert)]
    [TestCase(13, 2, 5, Choices.OneExpertIdle)]
    [TestCase(0, 2, 5, Choices.Random)]
    [TestCase(1, 2, 5, Choices.Random)]
    public void Outputs_and_all_gradients_follow_the_definition(int tokens, int slots, int experts, Choices choices)
    {
        foreach (var width in new[] { 1, 7, 19 })
        {
            var problem = new DispatchCase(_seed, [tokens], slots, experts, width, choices);
            var dispatcher = new LocalDispatcher(experts);
            DispatchRun.Of(dispatcher, problem, 0, DType.Float64, DType.Float64).MustMatch(problem, dispatcher, 0, 1e-12);
            DispatchRun.Of(dispatcher, problem, 0, DType.Float32, DType.Float32).MustMatch(problem, dispatcher, 0, 2e-6);
            var rounded = problem.InBFloat16();
            DispatchRun.Of(dispatcher, rounded, 0, DType.BFloat16, DType.Float32).MustMatch(rounded, dispatcher, 0, 0.01);
        }
    }

    [Test]
    public void All_gather_over_one_rank_is_the_same()
    {
        using var world = new SingleProcessGroup(TimeSpan.FromSeconds(1));
        var problem = new DispatchCase(_seed, [11], slots: 3, experts: 6, width: 8, Choices.SomeDropped);
        var reference = new AllGatherDispatcher(world, 6);
        DispatchRun.Of(reference, problem, 0, DType.Float64, DType.Float64).MustMatch(problem, reference, 0, 1e-12);
        var overOneRank = new AllToAllDispatcher(world, 6);
        DispatchRun.Of(overOneRank, problem, 0, DType.Float64, DType.Float64).MustMatch(problem, overOneRank, 0, 1e-12);
    }

    [Test]
    public void Dispatch_then_combine_multiplies_each_token_by_the_sum_of_its_weights()
    {
        using var scope = new TensorScope();
        var random = new Random(_seed);
        var tokens = Tensor.From([.. Enumerable.Range(0, 20 * 6).Select(_ => random.NextDouble())], 20, 6);
        var weights = Tensor.From([.. Enumerable.Range(0, 20 * 3).Select(_ => random.NextDouble())], 20, 3);
        var ids = Tensor.From([.. Enumerable.Range(0, 20 * 3).Select(_ => random.NextInt64(4))], 20, 3); // also the same expert twice
        var dispatcher = new LocalDispatcher(4);
        var dispatched = dispatcher.Dispatch(tokens, ids, weights);
        var output = dispatcher.Combine(dispatched.Rows * dispatched.RowWeights.Unsqueeze(1), dispatched);
        var expected = tokens * weights.Sum(1, keep: true);
        Assert.That(output.ToArray<double>(), Is.EqualTo(expected.ToArray<double>()).Within(1e-14));
    }

    [Test]
    public void Two_runs_have_the_same_bits()
    {
        var problem = new DispatchCase(_seed, [200], slots: 4, experts: 8, width: 16);
        var dispatcher = new LocalDispatcher(8);
        var first = DispatchRun.Of(dispatcher, problem, 0, DType.Float32, DType.Float32);
        var second = DispatchRun.Of(dispatcher, problem, 0, DType.Float32, DType.Float32);
        Assert.That(second.Output, Is.EqualTo(first.Output));
        Assert.That(second.TokenGradient, Is.EqualTo(first.TokenGradient));
        Assert.That(second.WeightGradient, Is.EqualTo(first.WeightGradient));
    }

    [Test]
    public void No_tensor_outlives_its_step()
    {
        var problem = new DispatchCase(_seed, [17], slots: 2, experts: 4, width: 8);
        var dispatcher = new LocalDispatcher(4);
        var before = Tensor.LiveCount;
        for (var step = 0; step < 5; step++)
        {
            DispatchRun.Of(dispatcher, problem, 0, DType.BFloat16, DType.Float32);
            Assert.That(Tensor.LiveCount, Is.EqualTo(before));
        }
    }

    [Test]
    public void Nothing_is_kept_where_nothing_is_recorded()
    {
        using var scope = new TensorScope();
        using var mode = Autograd.NoGrad();
        var dispatcher = new LocalDispatcher(2);
        var dispatched = dispatcher.Dispatch(Tensor.Ones([3, 4]), Tensor.Zeros([3, 1], DType.Int64), Tensor.Ones([3, 1]));
        var output = dispatcher.Combine(dispatched.Rows, dispatched);
        Assert.That(output.RequiresGrad, Is.False);
        Assert.That(output.ToArray<float>(), Is.All.EqualTo(1f));
    }

    [Test]
    public void Tokens_that_nothing_depends_on_get_a_gradient_of_zero()
    {
        using var scope = new TensorScope();
        var tokens = Tensor.Ones([2, 3]);
        tokens.RequiresGrad = true;
        var dispatcher = new LocalDispatcher(2);
        var dispatched = dispatcher.Dispatch(tokens, Tensor.From([0L, 2L], 2, 1), Tensor.Ones([2, 1]));
        var output = dispatcher.Combine(dispatched.Rows * 5, dispatched);
        Autograd.Backward(output.Sum());
        Assert.That(tokens.Gradient!.ToArray<float>(), Is.EqualTo(new[] { 5f, 5f, 5f, 0f, 0f, 0f }));
    }

    [Test]
    public void Unknown_expert_is_refused_by_its_number()
    {
        using var scope = new TensorScope();
        var dispatcher = new LocalDispatcher(4);
        var tokens = Tensor.Zeros([1, 3]);
        var weights = Tensor.Ones([1, 1]);
        Assert.That(() => dispatcher.Dispatch(tokens, Tensor.From([5L], 1, 1), weights), Throws.ArgumentException.With.Message.Contains("no expert 5"));
        Assert.That(() => dispatcher.Dispatch(tokens, Tensor.From([-1L], 1, 1), weights), Throws.ArgumentException.With.Message.Contains("no expert -1"));
    }

    [Test]
    public void Shapes_that_do_not_fit_are_refused()
    {
        using var scope = new TensorScope();
        var dispatcher = new LocalDispatcher(2);
        var (tokens, ids, weights) = (Tensor.Zeros([3, 4]), Tensor.Zeros([3, 2], DType.Int64), Tensor.Zeros([3, 2]));
        var dispatched = dispatcher.Dispatch(tokens, ids, weights);
        Assert.That(() => dispatcher.Dispatch(tokens, Tensor.Zeros([2, 2], DType.Int64), weights), Throws.ArgumentException);
        Assert.That(() => dispatcher.Dispatch(tokens, ids, Tensor.Zeros([3, 1])), Throws.ArgumentException);
        Assert.That(() => dispatcher.Combine(Tensor.Zeros([5, 4]), dispatched), Throws.ArgumentException);
        Assert.That(() => dispatcher.Combine(dispatched.Rows, dispatched, Tensor.Zeros([2, 4])), Throws.ArgumentException);
        Assert.That(() => new LocalDispatcher(2).Combine(dispatched.Rows, dispatched), Throws.ArgumentException);
    }

    [Test]
    public void What_is_added_comes_back_on_top_with_the_gradient_of_the_sum()
    {
        using var scope = new TensorScope();
        var random = new Random(_seed);
        var added = Tensor.From([.. Enumerable.Range(0, 6).Select(_ => random.NextDouble())], 2, 3);
        added.RequiresGrad = true;
        var dispatcher = new LocalDispatcher(2);
        var dispatched = dispatcher.Dispatch(Tensor.Ones([2, 3], DType.Float64), Tensor.From([0L, 1L, 1L, 2L], 2, 2), Tensor.Ones([2, 2]));
        var output = dispatcher.Combine(dispatched.Rows, dispatched, added);
        var seed = Tensor.From([.. Enumerable.Range(0, 6).Select(_ => random.NextDouble())], 2, 3);
        Autograd.Backward(output, seed);
        Assert.That(output.ToArray<double>(), Is.EqualTo(added.ToArray<double>().Select((x, i) => x + (i < 3 ? 2 : 1))).Within(1e-15));
        Assert.That(added.Gradient!.ToArray<double>(), Is.EqualTo(seed.ToArray<double>()));
    }
}
