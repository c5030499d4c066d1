using System.IO.Enumeration;
using Moe.Distributed;
using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>
/// Turns the gradient of each matrix by the inverse curvature of its inputs and of its output gradients, then lets a first-order optimizer
/// step with it. Each curvature is estimated from one mean vector, so that a factor's inverse is kept by rank-1 updates and only vectors
/// are communicated.
/// </summary>
/// <remarks>
/// Mozaffari et al. 2023, https://arxiv.org/abs/2306.01685; by default the rule of the authors' program, see <see cref="MkorRule"/>, docs/optimizers.md
/// and decision 011. With a <see cref="MkorSwitch"/> it is MKOR-H. Matrices are those of kinds Matrix and Expert; a bias <c>X.bias</c>
/// belongs to the matrix <c>X.weight</c>. Everything else passes through.
/// An expert is a matrix of its own: its means are over its own rows on all its replicas, its factors stand still while it sees none.
/// </remarks>
public sealed class Mkor : Optimizer
{
    // Gradients are copied to be worked as batches; a batch ends before it would hold more elements.
    private const long MostElements = 1 << 24;

    private readonly MkorOptions _options;
    private readonly MkorSwitch? _switch;
    private readonly Optimizer _inner;
    private readonly MkorStatistics _statistics;
    private MkorGroup[] _groups;
    private bool _collects;
    private long _step;

    /// <param name="stored">The model's parameters, in the same order on all ranks that hold them.</param>
    /// <param name="stepped">What <paramref name="inner"/> steps; of a stored matrix either all parts (of an expert) or none.</param>
    /// <param name="inner">Steps with the preconditioned gradients; freed with this.</param>
    /// <param name="placement">Says which ranks add up a parameter's row sums.</param>
    /// <param name="options">Validated with the rest of the configuration.</param>
    /// <param name="decision">Decides when to go on first-order alone (MKOR-H); null for never.</param>
    /// <exception cref="ArgumentException">Parts of one stored matrix are missing in <paramref name="stepped"/>.</exception>
    public Mkor(
        IReadOnlyList<Parameter> stored,
        IReadOnlyList<LogicalParameter> stepped,
        Optimizer inner,
        ParameterPlacement placement,
        MkorOptions options,
        MkorSwitch? decision = null)
    {
        (_inner, _options, _switch) = (inner, options, decision);
        var matrices = stored.Where(parameter => IsMatrix(parameter) && parameter.Keys.Any(key => !IsSkipped(key))).ToArray();
        _statistics = new MkorStatistics(matrices, placement, options.Clip);
        var byKey = stepped.ToDictionary(parameter => parameter.Key);
        _groups = [.. matrices.SelectMany(matrix => Units(matrix, byKey)).GroupBy(unit => unit.Shape).SelectMany(Batches).Select(units => new MkorGroup(units, options))];
    }

    /// <summary>Told the step (steps done before it) and the reason when <see cref="MkorSwitch"/> ends the second-order part; the same on every rank.</summary>
    public event Action<long, string>? Switched;

    /// <inheritdoc/>
    public override IEnumerable<OptimizerState> State => _inner.State.Concat(_groups.SelectMany(group => group.State));

    /// <inheritdoc/>
    public override long Operations => _inner.Operations + _groups.Sum(group => group.Operations);

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, double> Scalars =>
        _switch is null ? _inner.Scalars : _inner.Scalars.Concat(_switch.Scalars).ToDictionary(scalar => scalar.Key, scalar => scalar.Value);

    /// <summary>Whether the second-order part still works.</summary>
    private bool IsOn => _switch is not { IsMade: true };

    /// <inheritdoc/>
    public override void LoadScalars(IReadOnlyDictionary<string, double> scalars)
    {
        _inner.LoadScalars(scalars);
        _switch?.LoadScalars(scalars);
        if (!IsOn)
        {
            DropFactors();
        }
    }

    /// <inheritdoc/>
    public override void Begin(long step)
    {
        _inner.Begin(step);
        _step = step;
        _collects = IsOn && _options.Updates(step);
        if (_collects)
        {
            _statistics.Collect();
        }
        else
        {
            _statistics.Leave();
        }
    }

    /// <inheritdoc/>
    public override bool Freezes(ParameterKind kind, int? layer) => _inner.Freezes(kind, layer);

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">No row passed a layer that every token should pass, in a step that updates its factors.</exception>
    public override void Step(OptimizerStep step)
    {
        using (Autograd.NoGrad())
        {
            if (_collects)
            {
                UpdateFactors();
            }

            Array.ForEach(_groups, group => group.Precondition());
        }

        _inner.Step(step);
        if (_switch?.Observe(_step, step.Loss) is { } reason)
        {
            DropFactors();
            Switched?.Invoke(_step, reason);
        }
    }

    /// <summary>As <see cref="MkorGroup.ResetFlags"/>.</summary>
    internal (bool Input, bool Output)? ResetFlags(string key) => _groups.Select(group => group.ResetFlags(key)).FirstOrDefault(flags => flags is not null);

    /// <inheritdoc/>
    protected override void Free()
    {
        DropFactors();
        _statistics.Dispose();
        _inner.Dispose();
    }

    private void UpdateFactors()
    {
        _collects = false;
        _statistics.Leave();
        _statistics.Reduce();
        Array.ForEach(_groups, group => group.Update(_statistics));
    }

    private void DropFactors()
    {
        Array.ForEach(_groups, group => group.Dispose());
        _groups = [];
    }

    private static bool IsMatrix(Parameter parameter) =>
        parameter.Kind is ParameterKind.Matrix or ParameterKind.Expert && parameter.Value.Rank == parameter.RowAxis + 2;

    private bool IsSkipped(string key) => _options.Skip.Any(pattern => FileSystemName.MatchesSimpleExpression(pattern, key, ignoreCase: false));

    private IEnumerable<MkorUnit> Units(Parameter stored, Dictionary<string, LogicalParameter> stepped)
    {
        foreach (var (place, keys) in stored.Keys.Chunk(stored.Parts.Count).Index())
        {
            var wanted = keys.Zip(stored.Parts).Where(part => !IsSkipped(part.First)).ToArray();
            var here = wanted.Where(part => stepped.ContainsKey(part.First)).Select(part => new MkorPart(stepped[part.First], part.Second.Start)).ToArray();
            if (here.Length > 0 && here.Length < wanted.Length)
            {
                throw new ArgumentException(
                    $"'{keys[0]}' and what is fused with it share a factor, but only {here.Length} of {wanted.Length} parts are stepped here", nameof(stepped));
            }

            if (here.Length > 0)
            {
                yield return new MkorUnit(UnitKey(stored, keys[0]), stored, place, here, Bias(keys[0], stepped));
            }
        }
    }

    // "layers.3.moe.experts.7.gate" is fused in "layers.3.moe.experts.gate_up": together they are "layers.3.moe.experts.7.gate_up".
    private static string UnitKey(Parameter stored, string partKey) =>
        partKey[..(partKey.LastIndexOf('.') + 1)] + stored.Name[(stored.Name.LastIndexOf('.') + 1)..];

    private static LogicalParameter? Bias(string key, Dictionary<string, LogicalParameter> stepped) =>
        key.EndsWith(".weight", StringComparison.Ordinal) ? stepped.GetValueOrDefault(key[..^"weight".Length] + "bias") : null;

    private static IEnumerable<MkorUnit[]> Batches(IEnumerable<MkorUnit> alike)
    {
        var first = alike.First();
        return alike.Chunk((int)Math.Clamp(MostElements / (first.Rows * first.Inputs), 1, int.MaxValue));
    }
}
