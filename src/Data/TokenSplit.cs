namespace Moe.Data;

/// <summary>A domain's tokens in two: training first, evaluation at the end.</summary>
/// <param name="Training">Tokens [0, Training) are trained on.</param>
/// <param name="Evaluation">The last tokens, from position Training on, are held out.</param>
public readonly record struct TokenSplit(long Training, long Evaluation)
{
    /// <param name="tokens">All tokens of the domain.</param>
    /// <param name="evaluationFraction">Share held out, in [0, 1); the count is rounded down.</param>
    /// <exception cref="ArgumentOutOfRangeException">The fraction is outside [0, 1).</exception>
    public static TokenSplit Of(long tokens, double evaluationFraction)
    {
        if (evaluationFraction is not (>= 0 and < 1))
        {
            throw new ArgumentOutOfRangeException(nameof(evaluationFraction), evaluationFraction, "The evaluation fraction must be in [0, 1).");
        }

        // In decimal, 0.29 of 100 tokens are 29; in binary they are 28.999...
        var evaluation = (long)(tokens * (decimal)evaluationFraction);
        return new TokenSplit(tokens - evaluation, evaluation);
    }
}
