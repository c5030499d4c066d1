using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>
/// Steepest descent under the spectral norm, exactly: M becomes |M| U V^T, with |M| the sum of its singular values and U, V their vectors.
/// </summary>
/// <remarks>
/// The operator of Gruntkowska et al. 2025, https://arxiv.org/abs/2510.02239, argmax of &lt;M, X&gt; - |X|^2 / 2. By singular value decompositions,
/// which cost several times what <see cref="NewtonSchulz"/> does: for tests and small matrices.
/// </remarks>
public sealed record SharpOperator : MatrixDirection
{
    /// <summary>6 l s^2 + 20 s^3 with s the short side and l the long one: Golub and Van Loan's count for thin factors.</summary>
    /// <inheritdoc/>
    public override long Operations(long rows, long columns)
    {
        var (s, l) = (Math.Min(rows, columns), Math.Max(rows, columns));
        return (6 * l * s * s) + (20 * s * s * s);
    }

    /// <inheritdoc/>
    internal override void Replace(Tensor batch, Tensor[] matrices)
    {
        using var scope = new TensorScope();
        var (left, values, right) = batch.SingularValues();
        var norms = values.Sum(-1, keep: true).Unsqueeze(-1); // [B, 1, 1]
        batch.CopyFrom_(left.MatMul(right) * norms);
    }
}
