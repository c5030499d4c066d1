using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>Inverse factors of one size, updated as one batch. Each begins as the identity.</summary>
/// <remarks>
/// Shapes: n factors of d x d. An update is F &lt;- kappa P + lambda (P v)(P v)^T with P = alpha F + beta I; a rule is a choice of these four
/// numbers, worked out in double. The last term is added as a product u u^T, so that factors stay symmetric to the bit.
/// </remarks>
internal sealed class MkorFactors : IDisposable
{
    private readonly MkorOptions _options;
    private readonly Tensor _identity;

    /// <param name="count">n.</param>
    /// <param name="size">d.</param>
    /// <param name="type">Float32 or float64.</param>
    /// <param name="options">The rule and its numbers.</param>
    internal MkorFactors(int count, long size, DType type, MkorOptions options)
    {
        using var scope = new TensorScope();
        _options = options;
        _identity = Tensor.Ones([size, size], type).UpperTriangle();
        _identity = (_identity - _identity.UpperTriangle(1)).Detached();
        Values = _identity.Unsqueeze(0).Expand(count, -1, -1).Clone().Contiguous().Detached();
        Each = [.. Enumerable.Range(0, count).Select(i => Values.Select(0, i).Detached())];
    }

    /// <summary>[n, d, d].</summary>
    internal Tensor Values { get; }

    /// <summary>The factors one by one, as views.</summary>
    internal IReadOnlyList<Tensor> Each { get; }

    /// <summary>Largest magnitude in each factor; NaN in one that holds NaN.</summary>
    internal double[] Largest() => Values.LargestMagnitudes().To(DType.Float64).ToArray<double>();

    /// <summary>Brings a vector into each factor. One that comes out infinite or NaN starts again at the identity.</summary>
    /// <param name="vectors">[n, d] float64; zeros for a factor that is left alone.</param>
    /// <param name="weights">By factor: 1 for the rule as it stands, less to keep more of what was, 0 to leave the factor alone.</param>
    internal void Update(Tensor vectors, double[] weights)
    {
        if (Array.TrueForAll(weights, weight => weight == 0))
        {
            return;
        }

        using var scope = new TensorScope();
        var before = Before(weights);
        Values.Multiply_(Column(before, row => row.Alpha)).AddProduct_(_identity.Unsqueeze(0), Column(before, row => row.Beta));
        var v = vectors.Unsqueeze(2) * Tensor.From(Array.ConvertAll(before, row => row.VectorScale), weights.Length, 1, 1);
        var direction = v.To(Values.DType); // [n, d, 1]
        var damped = Values.BatchMatMulInto(direction, Tensor.Empty(direction.Shape, direction.DType));
        var curvature = (direction * damped).To(DType.Float64).Sum(1).ToArray<double>(); // v^T P v
        var after = Enumerable.Range(0, weights.Length).Select(i => After(weights[i], curvature[i])).ToArray();
        if (_options.Rule != MkorRule.Code)
        {
            Values.Multiply_(Column(after, row => row.Kappa));
        }

        var u = damped * Column(after, row => Math.Sqrt(Math.Abs(row.Lambda)));
        Values.BatchAddMatMul_(u, u.Transpose(), _options.Rule == MkorRule.Paper ? 1 : -1);
        ResetWhere(Array.ConvertAll(Largest(), magnitude => !double.IsFinite(magnitude)));
    }

    /// <summary>Sets factors to the identity. This is rare, hence one by one.</summary>
    /// <param name="which">By factor.</param>
    internal void ResetWhere(bool[] which)
    {
        for (var i = 0; i < which.Length; i++)
        {
            if (which[i])
            {
                Each[i].CopyFrom_(_identity);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var factor in Each)
        {
            factor.Dispose();
        }

        Values.Dispose();
        _identity.Dispose();
    }

    private (double Alpha, double Beta, double VectorScale)[] Before(double[] weights)
    {
        // With a share w of the tokens, decay and vector count w times: time is then measured in tokens.
        if (_options.Rule == MkorRule.Code)
        {
            return Array.ConvertAll(weights, w => (1 - ((1 - _options.Gamma) * w), (1 - _options.Gamma) * w, Math.Sqrt(w)));
        }

        var largest = Largest();
        return [.. weights.Select((w, i) => w > 0 && largest[i] > _options.Threshold ? (_options.Zeta, 1 - _options.Zeta, 1.0) : (1.0, 0.0, 1.0))];
    }

    // Of a positive definite factor the denominators exceed 1; rounding must not say otherwise.
    private (double Kappa, double Lambda) After(double weight, double curvature)
    {
        if (weight == 0)
        {
            return (1, 0);
        }

        var gamma = Math.Pow(_options.Gamma, weight);
        return _options.Rule switch
        {
            MkorRule.Code => (1, -1 / Math.Max(1, 1 + curvature)),
            MkorRule.Exact => (1 / gamma, -(1 - gamma) / (gamma * gamma) / Math.Max(1, 1 + ((1 - gamma) / gamma * curvature))),
            _ => (gamma, (1 - gamma) / (gamma * gamma) / Math.Max(1, 1 + (gamma * (1 - gamma) * curvature))),
        };
    }

    private Tensor Column<T>(T[] rows, Func<T, double> number) =>
        Tensor.From(Array.ConvertAll(rows, row => number(row)), rows.Length, 1, 1).To(Values.DType);
}
