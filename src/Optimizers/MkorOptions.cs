namespace Moe.Optimizers;

/// <summary>How <see cref="Mkor"/> brings a new vector v into an inverse factor F.</summary>
public enum MkorRule
{
    /// <summary>
    /// The authors' program: P = gamma F + (1 - gamma) I, then the exact inverse of P^-1 + v v^T. The first vector is thrown away; the norm
    /// that is kept is the sum of weight's and bias's; a layer with an entry above the threshold starts again at I.
    /// </summary>
    Code,

    /// <summary>The exact inverse of the moving average gamma F^-1 + (1 - gamma) v v^T, pulled toward I where an entry exceeds the threshold.</summary>
    Exact,

    /// <summary>The formula as the paper prints it, which grows without bound on the directions it should damp; for comparison with it only.</summary>
    Paper,
}

/// <summary>Settings of <see cref="Mkor"/>.</summary>
/// <param name="Rule">How factors are updated.</param>
/// <param name="InverseFrequency">Factors are updated in each step that this divides; at least 1.</param>
/// <param name="WarmupSteps">Factors are updated in every step before this one, too; at least 0.</param>
/// <param name="Clip">Entries of inputs and of output gradients are brought into [-clip, clip] before they are averaged; above 0.</param>
/// <param name="Gamma">Share of a factor that an update keeps, in (0, 1); the authors' program has 0.95 fixed.</param>
/// <param name="Zeta">Share of a factor that the stabiliser of <see cref="MkorRule.Exact"/> and <see cref="MkorRule.Paper"/> keeps, in [0, 1].</param>
/// <param name="Threshold">The largest magnitude that an entry of a factor may have, above 1.</param>
/// <param name="MinTokens">An expert with fewer rows over all its replicas keeps its factors; at least 1, which is the authors' rule but for their NaN.</param>
/// <param name="MeanExpertRows">
/// Rows of an expert under equal load, tokens * k / E of a step: an expert with a share w &lt; 1 of them forgets and learns by w only. 0 is off.
/// </param>
/// <param name="Skip">Keys of matrices that stay first-order; <c>*</c> stands for any text, <c>?</c> for one character.</param>
public sealed record MkorOptions(
    MkorRule Rule = MkorRule.Code,
    long InverseFrequency = 10,
    long WarmupSteps = 0,
    double Clip = 100,
    double Gamma = 0.95,
    double Zeta = 0.9,
    double Threshold = 2,
    long MinTokens = 8,
    double MeanExpertRows = 0,
    params IReadOnlyList<string> Skip)
{
    /// <summary>Whether factors are updated in a step.</summary>
    /// <param name="step">Steps done before.</param>
    internal bool Updates(long step) => step % InverseFrequency == 0 || step < WarmupSteps;
}
