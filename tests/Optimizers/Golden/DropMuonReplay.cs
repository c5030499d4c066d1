using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>Drop-Muon, with the layers that the file drew: Jordan's Muon on them, or the exact sharp operator.</summary>
public sealed class DropMuonReplay : IGoldenReplay
{
    /// <inheritdoc/>
    public bool Understands(GoldenFile file) => IsDropMuon(file);

    /// <inheritdoc/>
    public void Replay(GoldenFile file)
    {
        using var scope = new TensorScope();
        var hyper = file.ReadHyper();
        var (options, rate) = (Options(hyper), hyper.Number("lr", 0.02));
        hyper.AssertAllConsumed();
        var layers = Integers(file, "layer_of_param");
        LogicalParameter[] parameters = [.. file.LogicalParameters().Select((parameter, i) =>
            new LogicalParameter(parameter.Key, parameter.Kind, parameter.Value, parameter.Gradient, layers[i]))];
        using var optimizer = new DropMuon(MuonReplay.Matrices(parameters), options, new Drawn(file, layers.Max() + 1));
        for (var step = 0; step < file.Steps; step++)
        {
            file.WriteGradients(step, parameters);
            optimizer.Begin(step);
            optimizer.Step(new OptimizerStep(file.LearningRate(step, rate)));
            GoldenTolerance.AssertReached(file, step, parameters, GoldenTolerance.Of(file, float64: 1e-9));
        }
    }

    internal static bool IsDropMuon(GoldenFile file) => file.Source.Contains("Drop-Muon", StringComparison.Ordinal);

    private static MuonOptions Options(HyperReader hyper)
    {
        const string Frozen = "weights and momentum buffer of inactive layers unchanged";
        Assert.That(hyper.Text("frozen", Frozen), Is.EqualTo(Frozen), "setting 'frozen'");
        var options = MuonOptions.Keller with { Momentum = hyper.Number("momentum", 0.95), WeightDecay = hyper.Number("weight_decay", 0) };
        return hyper.Text("operator") switch
        {
            null => options with { Nesterov = hyper.Flag("nesterov", true), Direction = NewtonSchulz.Keller with { Precision = DType.Float64 } },
            "sharp" => options with { Nesterov = hyper.Flag("nesterov", false), Direction = new SharpOperator(), Scale = MuonScale.None },
            var other => throw new AssertionException($"operator '{other}' isn't understood"),
        };
    }

    private static int[] Integers(GoldenFile file, string key) => [.. file.Root.GetProperty(key).EnumerateArray().Select(value => value.GetInt32())];

    private sealed class Drawn(GoldenFile file, int layers) : LayerDraw(layers)
    {
        public override bool[] Trained(long step)
        {
            var active = file.Root.GetProperty("active_layers")[(int)step].EnumerateArray().Select(layer => layer.GetInt32()).ToHashSet();
            return [.. Enumerable.Range(0, Layers).Select(active.Contains)];
        }
    }
}
