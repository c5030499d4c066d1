using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>
/// Steps every matrix along its momentum with all singular values moved to about 1: all directions of a matrix learn at about the same
/// speed, however rare their gradient.
/// </summary>
/// <remarks>
/// Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; step size after Liu et al. 2025, https://arxiv.org/abs/2502.16982. Fused projections come
/// as the matrices that they are made of, and experts one by one; those of one shape are orthogonalised as one batch, so that the number of native calls
/// grows with the number of shapes only. A kernel [O, I, H, W] of a convolution is the matrix [O, I H W].
/// </remarks>
public sealed class Muon : MultiTensorOptimizer
{
    private const string FormScalar = "momentum_form";

    private readonly MuonOptions _options;
    private readonly Tensor[] _momentum;

    /// <param name="parameters">Hidden matrices; embeddings, head and norms belong to another optimizer.</param>
    /// <param name="options">Validated with the rest of the configuration.</param>
    /// <exception cref="ArgumentException">A parameter is no matrix.</exception>
    public Muon(IReadOnlyList<LogicalParameter> parameters, MuonOptions options)
        : base(parameters, options.Idle)
    {
        if (parameters.FirstOrDefault(parameter => parameter.Value.Rank is not (2 or 4)) is { } other)
        {
            throw new ArgumentException(
                $"Muon steps matrices, but '{other.Key}' has the shape [{string.Join(", ", other.Value.Shape)}]; give it to AdamW", nameof(parameters));
        }

        _options = options;
        _momentum = NewState("momentum");
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, double> Scalars => new Dictionary<string, double> { [FormScalar] = (int)_options.Form };

    /// <inheritdoc/>
    public override long Operations => OperationsOf(Parameters);

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The momentum is of another form: a sum is 1 / (1 - momentum) times as large as an average, and would outweigh every new gradient.</exception>
    public override void LoadScalars(IReadOnlyDictionary<string, double> scalars)
    {
        // A group that new rates have split off has no numbers of its own yet.
        if (scalars.TryGetValue(FormScalar, out var form) && (MomentumForm)(int)form != _options.Form)
        {
            throw new ArgumentException($"Muon's running gradients have the momentum form {(MomentumForm)(int)form}, the settings ask for {_options.Form}");
        }
    }

    /// <summary>Operations in the matrix products of a step of some of its parameters.</summary>
    internal long OperationsOf(IEnumerable<LogicalParameter> parameters) => parameters
        .Select(parameter => MatrixShape(parameter.Value))
        .Sum(shape => _options.Direction.Operations(shape.Rows, shape.Columns));

    /// <inheritdoc/>
    protected override void Update(StepList list, OptimizerStep step)
    {
        double Decay(int i) => DecayOf(list.Parameters[i], _options.WeightDecay);
        if (_options is { Decay: DecayForm.Coupled, WeightDecay: > 0 })
        {
            MultiTensor.Update(UpdateRule.ScaledSum, list.Coefficients(i => [1, OnGradient(_options.Decay, Decay(i))]), list.Gradients, list.Values);
        }

        var directions = new Tensor[list.Count];
        var batches = Batches(list.Values, directions);
        var momentum = MomentumCoefficients();
        MultiTensor.Update(UpdateRule.MuonMomentum, list.Coefficients(_ => momentum), list.Of(_momentum), list.Gradients, directions);
        foreach (var (batch, matrices) in batches)
        {
            _options.Direction.Replace(batch, matrices);
        }

        double[] Along(int i) => [Kept(_options.Decay, Decay(i), step.LearningRate), -step.LearningRate * ScaleOf(list.Values[i])];
        MultiTensor.Update(UpdateRule.ScaledSum, list.Coefficients(Along), list.Values, directions);
    }

    // One piece of memory for all matrices of a shape; `directions` gets the place of each.
    private static List<(Tensor Batch, Tensor[] Matrices)> Batches(Tensor[] values, Tensor[] directions)
    {
        var batches = new List<(Tensor, Tensor[])>();
        foreach (var alike in Enumerable.Range(0, values.Length).GroupBy(i => MatrixShape(values[i])))
        {
            var places = alike.ToArray();
            var batch = values[places[0]].NewEmpty([places.Length, alike.Key.Rows, alike.Key.Columns]);
            var matrices = batch.Unbind();
            for (var i = 0; i < places.Length; i++)
            {
                directions[places[i]] = matrices[i];
            }

            batches.Add((batch, matrices));
        }

        return batches;
    }

    private static (long Rows, long Columns) MatrixShape(Tensor value) => (value.Size(0), value.Count / value.Size(0));

    // In the order of the rule's coefficients: momentum kept, gradient taken in, the direction's share of momentum and of gradient.
    private double[] MomentumCoefficients()
    {
        var kept = _options.Momentum;
        var taken = _options.Form == MomentumForm.Ema ? 1 - kept : 1;
        return _options.Nesterov ? [kept, taken, kept, taken] : [kept, taken, 1, 0];
    }

    private double ScaleOf(Tensor value)
    {
        var (rows, columns) = MatrixShape(value);
        return _options.Scale switch
        {
            MuonScale.Keller => Math.Sqrt(Math.Max(1.0, (double)value.Size(-2) / value.Size(-1))),
            MuonScale.MatchRms => 0.2 * Math.Sqrt(Math.Max(rows, columns)),
            MuonScale.Spectral => Math.Sqrt((double)rows / columns),
            _ => 1,
        };
    }
}
