using Moe.Optimizers;
using Moe.Tests.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

public class DropMuonTests : ScopedTests
{
    private const int Layers = 6;

    [Test]
    public void A_cut_trains_a_layer_and_all_above_and_every_layer_is_drawn_alike()
    {
        const int Steps = 6000;
        var draw = new CutDraw((ulong)Random.NextInt64(), Layers);
        var cuts = new int[Layers];
        for (var step = 0; step < Steps; step++)
        {
            var trained = draw.Trained(step);
            var cut = Array.IndexOf(trained, true);
            Assert.That(trained, Is.EqualTo(Enumerable.Range(0, Layers).Select(layer => layer >= cut)));
            cuts[cut]++;
        }

        Assert.That(cuts, Is.All.EqualTo(Steps / Layers).Within(6 * Math.Sqrt(Steps / Layers)));
    }

    [Test]
    public void A_subset_has_each_layer_with_the_probability_and_by_itself()
    {
        const int Steps = 6000;
        const double Probability = 0.3;
        var draw = new SubsetDraw((ulong)Random.NextInt64(), Layers, Probability);
        var (single, both) = (new int[Layers], 0);
        for (var step = 0; step < Steps; step++)
        {
            var trained = draw.Trained(step);
            both += trained[1] && trained[4] ? 1 : 0;
            for (var layer = 0; layer < Layers; layer++)
            {
                single[layer] += trained[layer] ? 1 : 0;
            }
        }

        static double Error(double p) => 6 * Math.Sqrt(Steps * p * (1 - p));
        Assert.That(single, Is.All.EqualTo(Steps * Probability).Within(Error(Probability)));
        Assert.That(both, Is.EqualTo(Steps * Probability * Probability).Within(Error(Probability * Probability)));
    }

    [Test]
    public void A_step_draws_the_same_on_every_rank_and_after_every_pause([Values] bool subset)
    {
        var seed = (ulong)Random.NextInt64();
        LayerDraw Draw() => subset ? new SubsetDraw(seed, Layers, 0.5) : new CutDraw(seed, Layers);
        var run = Draw();
        var inOrder = Enumerable.Range(0, 50).Select(step => run.Trained(step)).ToList();
        for (var step = 49; step >= 0; step--)
        {
            Assert.That(Draw().Trained(step), Is.EqualTo(inOrder[step]));
        }
    }

    [Test]
    public void Head_and_final_norm_always_train_and_the_embedding_with_the_first_layer()
    {
        using var optimizer = new DropMuon([], new(), new CutDraw((ulong)Random.NextInt64(), Layers));
        var steps = 0;
        for (var step = 0; step < 200; step++)
        {
            optimizer.Begin(step);
            Assert.That(optimizer.Freezes(ParameterKind.Head, null), Is.False);
            Assert.That(optimizer.Freezes(ParameterKind.Norm, null), Is.False);
            Assert.That(optimizer.Freezes(ParameterKind.Matrix, Layers - 1), Is.False);
            Assert.That(optimizer.Freezes(ParameterKind.Embedding, null), Is.EqualTo(optimizer.Freezes(ParameterKind.Router, 0)));
            steps += optimizer.Freezes(ParameterKind.Embedding, null) ? 0 : 1;
        }

        Assert.That(steps, Is.InRange(1, 199));
    }

    [Test]
    public void Frozen_layers_keep_weights_momentum_and_count_of_steps_and_the_others_step_as_muon_does()
    {
        LogicalParameter[] dropped = [.. Enumerable.Range(0, Layers).Select(Matrix)];
        var plain = Array.ConvertAll(dropped, Copy);
        var options = MuonOptions.Moonlight;
        using var optimizer = new DropMuon(dropped, options, new SubsetDraw((ulong)Random.NextInt64(), Layers, 0.5));
        using var each = new CompositeOptimizer([.. plain.Select(parameter => new OptimizerGroup(parameter.Key, new Muon([parameter], options)))]);
        for (var step = 0; step < 8; step++)
        {
            Array.ForEach(dropped, parameter => parameter.Gradient.CopyFrom_(Random.Normal(parameter.Gradient.Shape)));
            optimizer.Begin(step);
            optimizer.Step(new OptimizerStep(0.1));
            for (var layer = 0; layer < Layers; layer++)
            {
                if (!optimizer.Freezes(ParameterKind.Matrix, layer))
                {
                    each.Groups[layer].Optimizer.Step(new OptimizerStep(0.1));
                }

                Assert.That(dropped[layer].Value.ToArray<double>(), Is.EqualTo(plain[layer].Value.ToArray<double>()), $"step {step}, layer {layer}");
            }
        }

        foreach (var (key, state) in optimizer.State.ToDictionary(state => (state.Name, state.Key)))
        {
            var other = each.State.Single(other => (other.Name, other.Key) == key);
            Assert.That(state.Value.To(DType.Float64).ToArray<double>(), Is.EqualTo(other.Value.To(DType.Float64).ToArray<double>()), $"{key}");
        }
    }

    private LogicalParameter Matrix(int layer)
    {
        var value = Random.Normal([5, 8]);
        return new($"layers.{layer}.attention.output", ParameterKind.Matrix, value, Tensor.Zeros(value.Shape, value.DType), layer);
    }

    // With weights of its own and the same gradient.
    private static LogicalParameter Copy(LogicalParameter parameter) =>
        new(parameter.Key, parameter.Kind, parameter.Value.Clone(), parameter.Gradient, parameter.Layer);
}
