using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Optimizers;

/// <summary>One of the optimizers of a <see cref="CompositeOptimizer"/>.</summary>
/// <param name="Name">Tells its numbers from those of the others; part of the checkpoint's keys.</param>
/// <param name="Optimizer">Steps its share of the parameters.</param>
/// <param name="RateFactor">Its learning rate as a multiple of the step's, above 0.</param>
public sealed record OptimizerGroup(string Name, Optimizer Optimizer, double RateFactor = 1)
{
    /// <summary>What it is told of a step.</summary>
    /// <param name="step">What all are.</param>
    internal OptimizerStep Of(OptimizerStep step) => step with { LearningRate = step.LearningRate * RateFactor };
}

/// <summary>Several optimizers as one, each with parameters of its own: Muon for the matrices and AdamW for the rest, say.</summary>
/// <param name="groups">In the order of their steps; freed with this.</param>
public sealed class CompositeOptimizer(IReadOnlyList<OptimizerGroup> groups) : Optimizer
{
    private readonly Lazy<Dictionary<LogicalParameter, OptimizerGroup>> _groupOf = new(() => (
        from owner in groups
        where owner.Optimizer is MultiTensorOptimizer
        from parameter in ((MultiTensorOptimizer)owner.Optimizer).Parameters
        select (parameter, owner)).ToDictionary());

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
    public override StackedUpdate? BeginEarly(Parameter parameter, IReadOnlyList<LogicalParameter> logical, OptimizerStep step)
    {
        OptimizerGroup[] concerned = [.. logical.Select(GroupOf).Distinct()];
        var updates = Array.ConvertAll(
            concerned, group => group.Optimizer.BeginEarly(parameter, [.. logical.Where(one => GroupOf(one) == group)], group.Of(step)));
        return updates is [var only] ? only : null;
    }

    /// <inheritdoc/>
    public override void StepEarly(IReadOnlyList<LogicalParameter> parameters, OptimizerStep step)
    {
        foreach (var share in parameters.GroupBy(GroupOf))
        {
            share.Key.Optimizer.StepEarly([.. share], share.Key.Of(step));
        }
    }

    /// <inheritdoc/>
    public override void Step(OptimizerStep step)
    {
        foreach (var group in Groups)
        {
            group.Optimizer.Step(group.Of(step));
        }
    }

    private OptimizerGroup GroupOf(LogicalParameter parameter) => _groupOf.Value.TryGetValue(parameter, out var group)
        ? group
        : throw new NotSupportedException($"the optimizer of '{parameter.Key}' steps all its parameters at once");

    /// <inheritdoc/>
    protected override void Free()
    {
        foreach (var group in Groups)
        {
            group.Optimizer.Dispose();
        }
    }
}
