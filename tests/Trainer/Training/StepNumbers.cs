using Moe.Torch;
using Moe.Training;

namespace Moe.Tests.Training;

/// <summary>What a step says of itself, for comparing runs.</summary>
internal sealed record StepNumbers(double Loss, double BalanceLoss, double ZLoss, double GradientNorm, long Dropped, long[] Counts)
{
    public static StepNumbers Of(StepResult result)
    {
        using var scope = new TensorScope();
        return new(result.Loss, result.BalanceLoss, result.ZLoss, result.GradientNorm, result.Dropped, result.Load.ToTensor().ToArray<long>());
    }

    /// <summary>What of <paramref name="actual"/> is further off than rounding explains.</summary>
    /// <param name="actual">Of the same step in another form.</param>
    /// <param name="tolerance">Relative.</param>
    public IEnumerable<string> Differences(StepNumbers actual, double tolerance)
    {
        (string What, double Expected, double Actual)[] numbers =
        [
            ("loss", Loss, actual.Loss),
            ("balance loss", BalanceLoss, actual.BalanceLoss),
            ("z loss", ZLoss, actual.ZLoss),
            ("gradient norm", GradientNorm, actual.GradientNorm),
            ("dropped", Dropped, actual.Dropped),
        ];
        foreach (var (what, expected, value) in numbers)
        {
            // Negated, so that NaN differs.
            if (!(Math.Abs(value - expected) <= tolerance * Math.Abs(expected)))
            {
                yield return FormattableString.Invariant($"{what} {value} instead of {expected}");
            }
        }

        if (!Counts.AsSpan().SequenceEqual(actual.Counts))
        {
            yield return $"tokens of experts [{string.Join(' ', actual.Counts)}] instead of [{string.Join(' ', Counts)}]";
        }
    }
}
