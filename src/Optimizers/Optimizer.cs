using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Optimizers;

/// <summary>A tensor that an optimizer keeps from step to step, as a checkpoint holds it.</summary>
/// <param name="Name">What it is, such as <c>mean</c>.</param>
/// <param name="Key">With the name it is unique, and the same on every mesh; usually the parameter's.</param>
/// <param name="Parameter">Whoever owns this parameter of those that hold it, writes the tensor to the checkpoint.</param>
/// <param name="Value">Loading writes through it.</param>
public readonly record struct OptimizerState(string Name, string Key, LogicalParameter Parameter, Tensor Value);

/// <summary>
/// Changes logical parameters by their gradients, which are reduced and clipped before. What it does to one depends on that one and on
/// numbers that all ranks share, so that every mesh, and every division of the parameters among ranks, makes the same step.
/// </summary>
public abstract class Optimizer : IDisposable
{
    /// <summary>Every tensor that a checkpoint must hold; whole from the construction on, also for an expert that has seen no token.</summary>
    public abstract IEnumerable<OptimizerState> State { get; }

    /// <summary>
    /// Operations in matrix products that a step takes of this instance, a multiplication and its addition counted as two; of the step that
    /// <see cref="Begin"/> was called for, where that matters. What passes over each weight once has none.
    /// </summary>
    public virtual long Operations => 0;

    /// <summary>Whether <see cref="Step"/> multiplies gradients with <see cref="LogicalParameter.GradientScale"/> itself, at no cost. Otherwise all should be 1.</summary>
    public virtual bool ScalesGradients => false;

    /// <summary>Numbers beside the tensors that a checkpoint must hold, by name; the same on every rank.</summary>
    public virtual IReadOnlyDictionary<string, double> Scalars => new Dictionary<string, double>();

    /// <summary>Sets what <see cref="Scalars"/> returned when the checkpoint was written.</summary>
    /// <exception cref="ArgumentException">One is missing.</exception>
    public virtual void LoadScalars(IReadOnlyDictionary<string, double> scalars)
    {
    }

    /// <summary>Makes ready for a step, before its first forward: what is drawn for it, or collected in it. Every rank calls this at the same step.</summary>
    /// <param name="step">Steps done before, from 0.</param>
    public virtual void Begin(long step)
    {
    }

    /// <summary>Whether a parameter is left alone in the step that <see cref="Begin"/> was called for: no gradient, no update, no decay. The same on every rank.</summary>
    /// <param name="kind">What it is to the model.</param>
    /// <param name="layer">Index of its layer; null for embedding, final norm and head.</param>
    public virtual bool Freezes(ParameterKind kind, int? layer) => false;

    /// <summary>
    /// Does what can be done of the next <see cref="Step"/> before the gradient's norm is known, which the host waits for. May be left out; afterwards gradients stay
    /// where they stand, and their numbers may still change.
    /// </summary>
    /// <param name="isFrozen">As the step will be told; null for none.</param>
    public virtual void Prepare(Func<LogicalParameter, bool>? isFrozen)
    {
    }

    /// <summary>
    /// Tells that some parameters of the step are stepped before <see cref="Step"/>, by <see cref="StepEarly"/> or by the result, with the same numbers; that then leaves
    /// them alone. The step has no norm of all gradients and no loss yet; what is idle <see cref="StepEarly"/> is told, and a product sees it by its rows.
    /// </summary>
    /// <param name="parameter">As it is stored.</param>
    /// <param name="logical">All that stands in it, in order, with their <see cref="LogicalParameter.GradientScale"/>.</param>
    /// <param name="step">As <see cref="Step"/> will be told, as far as it is known.</param>
    /// <returns>The update where a product may make it; null where it is <see cref="StepEarly"/>'s alone.</returns>
    /// <exception cref="NotSupportedException">This optimizer steps all at once.</exception>
    public virtual StackedUpdate? BeginEarly(Parameter parameter, IReadOnlyList<LogicalParameter> logical, OptimizerStep step) => throw NotEarly();

    /// <summary>Steps parameters that were announced so.</summary>
    /// <param name="parameters">With their gradients; those of one stored parameter.</param>
    /// <param name="step">What is known of the step, and which of these parameters are idle.</param>
    /// <exception cref="NotSupportedException">This optimizer steps all at once.</exception>
    public virtual void StepEarly(IReadOnlyList<LogicalParameter> parameters, OptimizerStep step) => throw NotEarly();

    /// <summary>Makes one update. Every rank calls this at the same step.</summary>
    /// <param name="step">What all optimizers are told.</param>
    public abstract void Step(OptimizerStep step);

    /// <summary>Frees the state; the parameters stay.</summary>
    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees what this optimizer keeps.</summary>
    protected abstract void Free();

    private NotSupportedException NotEarly() => new($"{GetType().Name} steps all its parameters at once");
}
