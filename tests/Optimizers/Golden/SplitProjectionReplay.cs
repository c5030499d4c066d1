using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>A fused projection that Dion splits into row blocks; here each block is a matrix of its own from the start.</summary>
public sealed class SplitProjectionReplay : IGoldenReplay
{
    /// <inheritdoc/>
    public bool Understands(GoldenFile file) => file.Source.Contains("_newton_schulz_row_blocks", StringComparison.Ordinal);

    /// <inheritdoc/>
    public void Replay(GoldenFile file)
    {
        using var scope = new TensorScope();
        var hyper = file.ReadHyper();
        long[] lengths = [.. hyper.Element("split_sizes")!.Value.EnumerateArray().Select(length => length.GetInt64())];
        var steps = (int)hyper.Number("ns_steps", 5);
        hyper.AssertAllConsumed();
        Assert.That(file.Source, Does.EndWith("NS = Keller f64"), "the iteration");
        long[] shape = [.. file.Root.GetProperty("shape").EnumerateArray().Select(size => size.GetInt64())];
        var input = Tensor.From(GoldenFile.Numbers(file.Root.GetProperty("input")), shape);
        foreach (var rule in file.Root.GetProperty("cases").EnumerateObject())
        {
            var options = new MuonOptions
            {
                Momentum = 0,
                Nesterov = false,
                Scale = MuonSettings.DionScale(rule.Name),
                Direction = NewtonSchulz.Keller with { Steps = steps, Precision = DType.Float64 },
            };

            // The file's numbers are to be scaled by the rule for the whole projection.
            var step = Step(options, input, lengths) / WholeScale(options.Scale, shape);
            var expected = Tensor.From(GoldenFile.Numbers(rule.Value.GetProperty("output")), shape);
            Assert.That((step - expected).Abs().Max().Item(), Is.LessThan(1e-9), $"{file}: {rule.Name}");
        }
    }

    private static Tensor Step(MuonOptions options, Tensor gradient, long[] lengths)
    {
        var weights = Tensor.Zeros(gradient.Shape, gradient.DType);
        using var optimizer = new Muon(
            [.. weights.Split(lengths).Zip(gradient.Split(lengths)).Select((pair, i) => new LogicalParameter($"block{i}", ParameterKind.Matrix, pair.First, pair.Second))],
            options);
        optimizer.Step(new OptimizerStep(1));
        return -weights;
    }

    private static double WholeScale(MuonScale scale, long[] shape) => scale switch
    {
        MuonScale.Spectral => Math.Sqrt((double)shape[0] / shape[1]),
        MuonScale.MatchRms => 0.2 * Math.Sqrt(shape.Max()),
        _ => 1,
    };
}
