using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>What <see cref="Muon"/> steps along instead of the momentum itself, matrix by matrix.</summary>
public abstract record MatrixDirection
{
    /// <summary>Floating-point operations for one matrix, a multiplication and its addition counted as two: what balancing and benchmarks go by.</summary>
    /// <param name="rows">Of the matrix.</param>
    /// <param name="columns">Of the matrix.</param>
    public abstract long Operations(long rows, long columns);

    /// <summary>Writes each matrix's direction over it, in a number of calls that does not depend on the number of matrices.</summary>
    /// <param name="batch">[B, m, n], contiguous, float32 or float64.</param>
    /// <param name="matrices">Its B matrices, as views.</param>
    internal abstract void Replace(Tensor batch, Tensor[] matrices);
}
