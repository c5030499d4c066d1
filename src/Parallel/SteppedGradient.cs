using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Distributed;

/// <summary>
/// The gradient of experts that no other rank holds, which are stepped by it within backward: what is left of it are sums of squares. In a step that nobody steps
/// in so, it is as <see cref="DirectGradient"/>.
/// </summary>
internal sealed class SteppedGradient : DirectGradient, IGradientTaker
{
    private readonly Parameter _parameter;
    private IBackwardStepper? _stepper;
    private double _factor;
    private bool _isAnnounced;
    private StackedUpdate? _update;
    private Tensor? _squares; // float64: of each logical parameter's gradient, or of each expert's

    /// <param name="plan">Of one parameter, held by this rank alone.</param>
    public SteppedGradient(GradientBucketPlan plan)
        : base(plan) => _parameter = plan.Parameters[0];

    /// <inheritdoc/>
    public StackedUpdate? Update
    {
        get
        {
            DemandOnce();
            Announce();
            return _update;
        }
    }

    /// <summary>Sums of squares of the gradient that was taken, before its factor; null where none was.</summary>
    public Tensor? Squares => _squares;

    /// <summary>Whether the experts are stepped within this step's backward.</summary>
    public bool IsStepped => _stepper is not null;

    /// <summary>Makes ready for a step's only backward, after <see cref="Zero"/>.</summary>
    /// <param name="factor">What the gradient is to be multiplied with.</param>
    /// <param name="stepper">Steps by it.</param>
    public void Begin(double factor, IBackwardStepper stepper)
    {
        (_stepper, _factor, _parameter.GradientTaker) = (stepper, factor, this);
    }

    /// <inheritdoc/>
    public override void Zero()
    {
        End();
        _squares?.Dispose();
        _squares = null;
        base.Zero();
    }

    /// <inheritdoc/>
    public void Take(Tensor gradient, IReadOnlyList<RowGroups> groups)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        var lengths = new Lazy<long[]>(() => [.. groups.Select(group => group.Lengths()).Aggregate((sum, more) => [.. sum.Zip(more, (a, b) => a + b)])]);
        TakeWhole(gradient.To(_parameter.Value.DType).Contiguous(), logical => lengths.Value[Array.IndexOf(_parameter.ExpertIds!, logical.Expert!.Value)] == 0);
    }

    /// <inheritdoc/>
    public void Updated(Tensor squares)
    {
        _squares = squares.Detached();
        SetScale(1);
    }

    /// <inheritdoc/>
    public override Work? Reduce(bool shard)
    {
        if (_stepper is null)
        {
            return base.Reduce(shard);
        }

        _parameter.GradientTaker = null; // the next backward is another step's
        if (_squares is null)
        {
            // No token came here, and no backward: its gradient counts as zeros, as any that is missing.
            using var scope = new TensorScope();
            TakeWhole(_parameter.Value.NewZeros(_parameter.Value.Shape), _ => true);
        }

        return null;
    }

    /// <inheritdoc/>
    public override void Scale(double factor, bool shard)
    {
        if (_stepper is null)
        {
            base.Scale(factor, shard);
        }
        else if (factor != _factor)
        {
            throw new InvalidOperationException($"'{_parameter.Name}' was stepped within backward by {_factor} of its gradient, which is now to be multiplied with {factor}");
        }
    }

    /// <summary>The sum of the squares of all gradients, as they were stepped by.</summary>
    /// <param name="squares">What <see cref="Squares"/> holds, in host memory.</param>
    public double SquareSum(IEnumerable<double> squares) => squares.Sum(sum => Math.Pow(_factor * Math.Sqrt(sum), 2));

    /// <summary>The first of its parameters whose squares are not finite; null where all are, or none was taken.</summary>
    public LogicalParameter? FirstNotFinite()
    {
        var sums = _squares?.ToArray<double>() ?? [];
        var place = Array.FindIndex(sums, sum => !double.IsFinite(sum));
        return place < 0 ? null : Logical[place * (Logical.Count / sums.Length)];
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        End();
        _squares?.Dispose();
        base.Dispose();
    }

    private void End()
    {
        (_stepper, _update, _isAnnounced) = (null, null, false);
        _parameter.GradientTaker = null;
    }

    // In backward, in which the host is ahead of a device, and not before the forward, which may have the device wait for it.
    private void Announce()
    {
        if (!_isAnnounced)
        {
            _isAnnounced = true;
            SetScale(_factor);
            _update = _stepper!.Begin(_parameter, Logical);
        }
    }

    // Before the matrices change: a product asks for the update first.
    private void DemandOnce()
    {
        if (_squares is not null)
        {
            throw new InvalidOperationException($"'{_parameter.Name}' is stepped within backward, which a step may have one of, and was stepped already");
        }
    }

    private void TakeWhole(Tensor gradient, Func<LogicalParameter, bool> isIdle)
    {
        DemandOnce();
        Announce();
        Show(gradient);
        SetScale(_factor);
        _squares = MultiTensor.SquareSums([.. Logical.Select(logical => logical.Gradient)]).Detached();
        _stepper!.Step(Logical, isIdle);
        Hide();
    }
}
