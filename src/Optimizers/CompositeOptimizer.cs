using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>One of the optimizers of a <see cref="CompositeOptimizer"/>.</summary>
/// <param name="Name">Tells its numbers from those of the others; part of the checkpoint's keys.</param>
/// <param name="Optimizer">Steps its share of the parameters.</param>
/// <param name="RateFactor">Its learning rate as a multiple of the step's, above 0.</param>
public sealed record OptimizerGroup(string Name, Optimizer Optimizer, double RateFactor = 1);

/// <summary>Several optimizers as one, each with parameters of its own: Muon for the matrices and AdamW for the rest, say.</summary>
/// <param name="groups">In the order of their steps; freed with this.</param>
public sealed class CompositeOptimizer(IReadOnlyList<OptimizerGroup> groups) : Optimizer
{
    /// <summary>The parts.</summary>
    public IReadOnlyList<OptimizerGroup> Groups { get; } = groups;

    /// <inheritdoc/>
    public override IEnumerable<OptimizerState> State => Groups.SelectMany(group => group.Optimizer.State);

    /// <inheritdoc/>
    public override long Operations => Groups.Sum(group => group.Optimizer.Operations);

    /// <inheritdoc/>
    public override bool ScalesGradients => Groups.All(group => group.Optimizer.ScalesGradients);

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, double> Scalars => Groups
        .SelectMany(group => group.Optimizer.Scalars.Select(scalar => (Name: $"{group.Name}/{scalar.Key}", scalar.Value)))
        .ToDictionary(scalar => scalar.Name, scalar => scalar.Value);

    /// <inheritdoc/>
    public override void LoadScalars(IReadOnlyDictionary<string, double> scalars)
    {
        foreach (var group in Groups)
        {
            var start = group.Name + "/";
            group.Optimizer.LoadScalars(scalars
                .Where(scalar => scalar.Key.StartsWith(start, StringComparison.Ordinal))
                .ToDictionary(scalar => scalar.Key[start.Length..], scalar => scalar.Value));
        }
    }

    /// <inheritdoc/>
    public override void Begin(long step)
    {
        foreach (var group in Groups)
        {
            group.Optimizer.Begin(step);
        }
    }

    /// <inheritdoc/>
    public override bool Freezes(ParameterKind kind, int? layer) => Groups.Any(group => group.Optimizer.Freezes(kind, layer));

    /// <inheritdoc/>
    public override void Prepare(Func<LogicalParameter, bool>? isFrozen)
    {
        foreach (var group in Groups)
        {
            group.Optimizer.Prepare(isFrozen);
        }
    }

    /// <inheritdoc/>
    public override void Step(OptimizerStep step)
    {
        foreach (var group in Groups)
        {
            group.Optimizer.Step(step with { LearningRate = step.LearningRate * group.RateFactor });
        }
    }

    /// <inheritdoc/>
    protected override void Free()
    {
        foreach (var group in Groups)
        {
            group.Optimizer.Dispose();
        }
    }
}
