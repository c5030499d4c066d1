using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>The authors' MKOR over SGD or Adam, and the exact and the printed rule.</summary>
public sealed class MkorReplay : IGoldenReplay
{
    /// <inheritdoc/>
    public bool Understands(GoldenFile file) =>
        IsProgram(file) || (file.Source.StartsWith("own ", StringComparison.Ordinal) && file.Hyper.TryGetProperty("rule", out _) && file.Root.TryGetProperty("steps", out _));

    /// <inheritdoc/>
    public void Replay(GoldenFile file)
    {
        using var scope = new TensorScope();
        var hyper = file.ReadHyper();
        Assert.That(hyper.Flag("half_precision", false), Is.False, $"{file}: factors in half precision");
        hyper.PassOver("stat_decay", "stabilization_factor", "measure_time", "bias"); // read and used nowhere, or said by the parameters
        var rule = Rule(file, hyper);
        var microBatches = (int)hyper.Number("grad_accum_steps", 1);
        var options = new MkorOptions(
            rule,
            (long)hyper.Number("inv_freq", 10),
            (long)hyper.Number("warmup_steps", 0),
            hyper.Number("clipping_value", rule == MkorRule.Code ? 100 : double.MaxValue) * microBatches,
            hyper.Number(rule == MkorRule.Code ? "code_decay" : "gamma", 0.95),
            hyper.Number("zeta", 0.9),
            hyper.Number("threshold", 2))
        {
            Skip = [.. (hyper.Element("sgd_layers")?.EnumerateArray() ?? default).Select(layer => $"{layer.GetString()}.*")],
        };
        var gradientScale = hyper.Number("grad_scale", 1);
        var (inner, learningRate) = FirstOrder(file, hyper);
        hyper.AssertAllConsumed();
        using var run = new MkorRun(file, options, inner, learningRate, microBatches, gradientScale);
        run.AllSteps();
    }

    private static bool IsProgram(GoldenFile file) => file.Source.StartsWith("Mohammad-Mozaffari/mkor", StringComparison.Ordinal);

    private static MkorRule Rule(GoldenFile file, HyperReader hyper) => hyper.Text("rule", IsProgram(file) ? "code" : null) switch
    {
        "code" => MkorRule.Code,
        "exact" => MkorRule.Exact,
        "paper" => MkorRule.Paper,
        var other => throw new AssertionException($"{file}: rule '{other}' isn't understood"),
    };

    // The program passes optimizer_args on to PyTorch; the other files have SGD's settings beside MKOR's own.
    private static (Func<IReadOnlyList<LogicalParameter>, Optimizer> Make, double LearningRate) FirstOrder(GoldenFile file, HyperReader hyper)
    {
        var name = hyper.Text("optimizer", "sgd");
        var settings = hyper.Has("optimizer_args") ? hyper.Section("optimizer_args") : hyper;
        settings.PassOver("foreach", "fused", "capturable", "differentiable");
        var rate = settings.Number("lr", 1e-3);
        var decay = settings.Number("weight_decay", 0);
        switch (name)
        {
            case "sgd":
                var sgd = new SgdOptions(
                    settings.Number("momentum", 0), settings.Number("dampening", 0), settings.Flag("nesterov", false), decay, DecayForm.Coupled);
                return (parameters => new Sgd(parameters, sgd), rate);
            case "adam":
                var (beta1, beta2) = settings.Pair("betas", 0.9, 0.999);
                var adam = new AdamWOptions(
                    beta1, beta2, settings.Number("eps", 1e-8), decay, DecayForm.Coupled, settings.Flag("amsgrad", false), settings.Flag("maximize", false));
                return (parameters => new AdamW(parameters, adam), rate);
            default:
                throw new AssertionException($"{file}: MKOR over '{name}' isn't understood");
        }
    }
}
