using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

/// <summary>Which passes of a model are charged for a backward, where its rank has memory for one in blocks only.</summary>
public class ExpertBlockPlanTests : ScopedTests
{
    private const int Sequences = 20, Length = 10, Vocabulary = 17;

    private static readonly TransformerOptions Small = new()
    {
        Layers = 3,
        Width = 12,
        Heads = 2,
        KeyValueHeads = 1,
        HeadWidth = 4,
        SequenceLength = Length,
        Vocabulary = Vocabulary,
        InitStd = 0.3,
        Moe = new() { Experts = 4, TopK = 2, ExpertWidth = 5 },
    };

    private readonly SingleProcessGroup _world = new(TimeSpan.FromSeconds(1));
    private long _free;

    [OneTimeTearDown]
    public void Leave() => _world.Dispose();

    [Test]
    public void A_pass_that_nothing_is_recorded_of_works_whole_where_training_works_in_blocks([Values] Recomputation recompute)
    {
        using var model = Model(recompute);
        var tokens = Random.Tokens(Sequences, Length, Vocabulary);
        Assert.That(LayersInBlocks(model, () => model.Forward(tokens, tokens, 1)), Is.EqualTo(new[] { 0, 1, 2 }), "training");
        using var mode = Autograd.NoGrad();
        Assert.That(LayersInBlocks(model, () => model.Forward(tokens, tokens, 1)), Is.Empty, "evaluation");
        Assert.That(LayersInBlocks(model, () => model.NextLogits(tokens)), Is.Empty, "sampling");
    }

    [Test]
    public void The_counting_pass_works_in_the_blocks_of_the_pass_that_trains([Values] Recomputation recompute, [Values(0, 1, 2)] int trained)
    {
        using var model = Model(recompute);
        foreach (var parameter in model.Parameters)
        {
            parameter.Value.RequiresGrad = parameter.Layer is null ? parameter.Name != "embedding" || trained == 0 : parameter.Layer >= trained;
        }

        var tokens = Random.Tokens(Sequences, Length, Vocabulary);
        int[] inBlocks = [.. Enumerable.Range(trained, 3 - trained)];
        Assert.That(LayersInBlocks(model, () => model.Forward(tokens, tokens, 1)), Is.EqualTo(inBlocks));
        Assert.That(LayersInBlocks(model, () => model.CountSelections(tokens, 1)), Is.EqualTo(inBlocks[..^1]), "it has no use for the last layer's experts");
    }

    // A byte less than the whole takes with what is kept for backward: enough for the whole of a pass without one, and for blocks.
    private static long Between()
    {
        var shape = new ExpertShape(Small.Width, Small.Moe.ExpertWidth, Small.Moe.TopK, Small.Moe.Experts, DType.Float64);
        const long Tokens = Sequences * Length;
        return shape.BytesKept(Tokens, Tokens * shape.Slots) + shape.BytesMoving(Tokens) + shape.BytesWorked(Tokens * shape.Slots) + shape.BytesOfMatrices(1) - 1;
    }

    // Blocks are more calls of operators than the whole.
    private int[] LayersInBlocks(Transformer model, Action pass)
    {
        _free = long.MaxValue;
        var whole = CallsOfLayers(model, pass);
        _free = Between();
        return [.. CallsOfLayers(model, pass).Zip(whole).Index().Where(layer => layer.Item.First > layer.Item.Second).Select(layer => layer.Index)];
    }

    private static long[] CallsOfLayers(Transformer model, Action pass)
    {
        using var scope = new TensorScope();
        var starts = new List<long>();
        model.LayerStarting = _ => starts.Add(Operator.Calls);
        pass();
        return [.. starts.Zip(starts.Skip(1).Append(Operator.Calls), (start, end) => end - start)];
    }

    private Transformer Model(Recomputation recompute)
    {
        var dispatcher = new AllToAllDispatcher(_world, Small.Moe.Experts) { FreeBytes = () => _free };
        return new Transformer(Small, dispatcher, 11, DType.Float64, DType.Float64) { Activations = new(recompute) };
    }
}
