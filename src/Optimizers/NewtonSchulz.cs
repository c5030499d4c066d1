using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>Coefficients of one iteration of <see cref="NewtonSchulz"/>, which takes each singular value x to a x + b x^3 + c x^5.</summary>
public readonly record struct NewtonSchulzRow(double A, double B, double C);

/// <summary>
/// Moves every singular value of a matrix to about 1 and keeps its singular vectors, by matrix products alone: X becomes
/// a X + (b A + c A A) X with A = X X^T, from X over its Frobenius norm on.
/// </summary>
/// <remarks>
/// Bernstein and Newhouse 2024, https://arxiv.org/abs/2409.20325; coefficients of Jordan et al. 2024,
/// https://kellerjordan.github.io/posts/muon/. Each matrix of a batch has a norm of its own, and a matrix of zeros stays one.
/// Shapes: B matrices [m, n] of which s is the short side and l the long one; the products are of [s, l] and [s, s].
/// </remarks>
public sealed record NewtonSchulz : MatrixDirection
{
    private const double Widening = 1.02;

    /// <summary>The same cubic-quintic each time: steep at 0, with singular values in about [0.68, 1.13] after 5 iterations.</summary>
    public static NewtonSchulz Keller { get; } = new();

    /// <summary>Microsoft's Dion and NVIDIA's Emerging-Optimizers: five different iterations, singular values in about [0.98, 1.03].</summary>
    public static NewtonSchulz Quintic { get; } = new()
    {
        Table =
        [
            new(4.0848, -6.8946, 2.9270),
            new(3.9505, -6.3029, 2.6377),
            new(3.7418, -5.5913, 2.3037),
            new(2.8769, -3.1427, 1.2046),
            new(2.8366, -3.0525, 1.2012),
        ],
    };

    /// <summary>The optimal five iterations of Amsel et al. 2025, https://arxiv.org/abs/2505.16932, as Dion rounds them.</summary>
    public static NewtonSchulz PolarExpress { get; } = new()
    {
        Table =
        [
            new(8.156554524902461, -22.48329292557795, 15.878769915207462),
            new(4.042929935166739, -2.808917465908714, 0.5000178451051316),
            new(3.8916678022926607, -2.772484153217685, 0.5060648178503393),
            new(3.285753657755655, -2.3681294933425376, 0.46449024233003106),
            new(2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
        ],
        Guard = NormGuard.Widened,
        Epsilon = 1e-6,
    };

    /// <summary>One row an iteration, at least one; the last is repeated where there are more iterations.</summary>
    /// <exception cref="ArgumentException">There is none, or a coefficient is not finite.</exception>
    public IReadOnlyList<NewtonSchulzRow> Table
    {
        get;
        init => field = value.Count > 0 && value.All(row => double.IsFinite(row.A) && double.IsFinite(row.B) && double.IsFinite(row.C))
            ? value
            : throw new ArgumentException("a Newton-Schulz table has at least one row of three finite numbers", nameof(value));
    } = [new(3.4445, -4.7750, 2.0315)];

    /// <summary>Iterations, at least 1.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Less than 1.</exception>
    public int Steps
    {
        get;
        init => field = value >= 1 ? value : throw new ArgumentOutOfRangeException(nameof(value), value, "Newton-Schulz takes at least 1 iteration");
    } = 5;

    /// <summary>What keeps the division by the norm from being one by 0.</summary>
    public NormGuard Guard { get; init; } = NormGuard.Added;

    /// <summary>See <see cref="NormGuard"/>; above 0.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Not above 0.</exception>
    public double Epsilon
    {
        get;
        init => field = value > 0 ? value : throw new ArgumentOutOfRangeException(nameof(value), value, "the epsilon under a norm is above 0");
    } = 1e-7;

    /// <summary>
    /// Type that the products are in; null for float64 where the matrix is in it, and bfloat16 for any other. Float32 stands in for bfloat16 where that would be added up in
    /// bfloat16 (<see cref="LinearAlgebra.ProductType"/>).
    /// </summary>
    public DType? Precision { get; init; }

    /// <summary>steps * (4 s^2 l + 2 s^3) for the three products of each iteration, with s the short side and l the long one.</summary>
    /// <inheritdoc/>
    public override long Operations(long rows, long columns)
    {
        var (s, l) = (Math.Min(rows, columns), Math.Max(rows, columns));
        return Steps * ((4 * s * s * l) + (2 * s * s * s));
    }

    /// <summary>Bytes that a batch of matrices takes at most beside itself: an iterate, a second one in turns with it, and two squares of the short side.</summary>
    /// <param name="matrices">Of one shape.</param>
    /// <param name="rows">Of each.</param>
    /// <param name="columns">Of each.</param>
    /// <param name="type">Of the batch.</param>
    /// <param name="device">Where it stands. On any host float32 is counted for bfloat16, whether or not this one needs it; not what libraries pack factors into.</param>
    public long WorkspaceBytes(long matrices, long rows, long columns, DType type, Device device)
    {
        var computed = ComputeType(type) == DType.BFloat16 && !device.IsCuda ? DType.Float32 : ComputeType(type);
        var (s, l) = (Math.Min(rows, columns), Math.Max(rows, columns));
        var iterates = computed == type && rows <= columns ? 1 : 2; // where the batch itself can be the first
        return matrices * ((iterates * s * l) + (2 * s * s)) * computed.Size();
    }

    /// <summary>Orthogonalises every matrix of <paramref name="x"/> [..., m, n].</summary>
    /// <returns>A new tensor of the shape and type of <paramref name="x"/>.</returns>
    public Tensor Orthogonalize(Tensor x)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        var (m, n) = (x.Size(-2), x.Size(-1));
        var batch = x.NewEmpty([x.Count / (m * n), m, n], x.DType == DType.Float64 ? DType.Float64 : DType.Float32);
        var result = batch.View(x.Shape).CopyFrom_(x);
        Replace(batch, batch.Unbind());
        return scope.Keep(result.To(x.DType));
    }

    /// <inheritdoc/>
    internal override void Replace(Tensor batch, Tensor[] matrices)
    {
        using var scope = new TensorScope();
        var divisors = Array.ConvertAll(MultiTensor.Norms(matrices), Divisor);
        var x = batch.Divide_(Tensor.From(divisors, divisors.Length, 1, 1).To(batch.DType).To(batch.Device)).To(LinearAlgebra.ProductType(ComputeType(batch.DType), batch.Device));
        var isTall = batch.Size(1) > batch.Size(2);
        if (isTall)
        {
            // A handle of its own, even of the batch's memory; freed before the other pieces are taken.
            using var tall = x;
            using var turned = tall.Transpose();
            x = turned.Contiguous();
        }

        x = Iterate(x);
        batch.CopyFrom_(isTall ? x.Transpose() : x);
    }

    // x [B, s, l] may be overwritten. Two pieces of memory take turns as the iterate, since no product is written over its factor.
    private Tensor Iterate(Tensor x)
    {
        var (b, s) = (x.Size(0), x.Size(1));
        var (gram, polynomial) = (x.NewEmpty([b, s, s]), x.NewEmpty([b, s, s]));
        var next = x.NewEmpty(x.Shape);
        for (var step = 0; step < Steps; step++)
        {
            var row = Table[Math.Min(step, Table.Count - 1)];
            x.BatchMatMulInto(x.Transpose(), gram);
            LinearAlgebra.BatchMatMulAddInto(gram, row.B, gram, gram, row.C, polynomial);
            LinearAlgebra.BatchMatMulAddInto(x, row.A, polynomial, x, 1, next);
            (x, next) = (next, x);
        }

        return x;
    }

    private DType ComputeType(DType type) => Precision ?? (type == DType.Float64 ? DType.Float64 : DType.BFloat16);

    private double Divisor(double norm) => Guard switch
    {
        NormGuard.Floor => Math.Max(norm, Epsilon),
        NormGuard.Widened => (Widening * norm) + Epsilon,
        _ => norm + Epsilon,
    };
}
