using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>The published Muons: Jordan's, Moonlight's, PyTorch's and Dion's; their matrices by Muon, their vectors by the AdamW beside it.</summary>
public sealed class MuonReplay : IGoldenReplay
{
    /// <inheritdoc/>
    public bool Understands(GoldenFile file) =>
        MuonSettings.Program(file.Source) is not null && !DropMuonReplay.IsDropMuon(file) && file.Root.TryGetProperty("expected", out _);

    /// <inheritdoc/>
    public void Replay(GoldenFile file)
    {
        using var scope = new TensorScope();
        var hyper = file.ReadHyper();
        var settings = MuonSettings.Read(file, hyper);
        hyper.AssertAllConsumed();
        var parameters = file.LogicalParameters();
        using var optimizer = Optimizer(settings, parameters);
        var comparison = new MuonComparison(file, settings);
        for (var step = 0; step < file.Steps; step++)
        {
            comparison.Before(step, parameters);
            file.WriteGradients(step, parameters);
            optimizer.Step(new OptimizerStep(file.LearningRate(step, settings.LearningRate)));
            comparison.AssertReached(step, parameters);
        }
    }

    /// <summary>The matrices of the parameters, [R, C] or a convolution's kernel; a stack is taken apart along its first axis, since each is a matrix of its own.</summary>
    internal static LogicalParameter[] Matrices(IEnumerable<LogicalParameter> parameters) =>
    [
        .. parameters.Where(parameter => parameter.Value.Rank >= 2).SelectMany(parameter => parameter.Value.Rank != 3
            ? [parameter]
            : parameter.Value.Unbind().Zip(parameter.Gradient.Unbind()).Select((pair, i) =>
                new LogicalParameter($"{parameter.Key}.{i}", parameter.Kind, pair.First, pair.Second, parameter.Layer, parameter.Expert))),
    ];

    private static CompositeOptimizer Optimizer(MuonSettings settings, LogicalParameter[] parameters)
    {
        var groups = new List<OptimizerGroup> { new("muon", new Muon(Matrices(parameters), settings.Muon)) };
        if (parameters.Where(parameter => parameter.Value.Rank < 2).ToArray() is { Length: > 0 } vectors)
        {
            var adam = settings.AdamW ?? throw new AssertionException("the file has a vector, but its program no optimizer for it");
            groups.Add(new("adamw", new AdamW(vectors, adam), settings.AdamWRate / settings.LearningRate));
        }

        return new CompositeOptimizer(groups);
    }
}
