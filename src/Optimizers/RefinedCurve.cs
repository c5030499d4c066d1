namespace Moe.Optimizers;

/// <summary>A learning rate's course refined for one task from the gradient norms of an earlier run on it: it warms up and falls where those say so.</summary>
/// <remarks>
/// Defazio, Cutkosky, Mehta and Mishchenko 2023, https://arxiv.org/abs/2310.07831, algorithms 1 and 2; filter width, padding and normalisation as
/// in the authors' scripts (github.com/facebookresearch/adaptive_scheduling, README.md and find_schedule.py): G is smoothed by a median, weights
/// are w = G^-2 (SGD, Euclidean norm) or G^-1 (Adam, l1 norm), and the rate of step t is w_t times the sum of all later weights. The last is 0;
/// equal norms give the straight line to 0.
/// </remarks>
public sealed class RefinedCurve
{
    private readonly double[] _shares;

    /// <param name="shares">Of the peak, evenly spaced from the first step to the last: at least 2, each in [0, 1], the largest 1.</param>
    /// <exception cref="ArgumentException">They are not such; says at which place.</exception>
    public RefinedCurve(IEnumerable<double> shares)
    {
        _shares = [.. shares];
        if (_shares.Length < 2)
        {
            throw new ArgumentException($"a refined schedule has at least 2 rates, not {_shares.Length}", nameof(shares));
        }

        var wrong = Array.FindIndex(_shares, share => !(share is >= 0 and <= 1));
        if (wrong >= 0)
        {
            throw new ArgumentException(FormattableString.Invariant($"rate {wrong} is {_shares[wrong]}, outside of 0 to 1"), nameof(shares));
        }

        if (_shares.Max() != 1)
        {
            throw new ArgumentException(FormattableString.Invariant($"the largest rate is {_shares.Max()}, not 1"), nameof(shares));
        }
    }

    /// <summary>Evenly spaced from the first step to the last.</summary>
    public IReadOnlyList<double> Shares => _shares;

    /// <summary>Refines from gradient norms.</summary>
    /// <param name="norms">Evenly spaced from the first step to the last; at least 2, positive and finite.</param>
    /// <param name="exponent">Of 1/G in the weights: 2 for Euclidean norms and SGD, 1 for l1 norms and Adam.</param>
    /// <param name="smooth">Width of the median filter as a share of the run, in [0, 1]; 0 for none. The authors took 0.1.</param>
    /// <exception cref="ArgumentException">A norm is not positive and finite, or there are too few.</exception>
    public static RefinedCurve Of(IReadOnlyList<double> norms, int exponent, double smooth)
    {
        if (norms.Count < 2 || norms.Any(norm => !(norm > 0) || !double.IsFinite(norm)))
        {
            throw new ArgumentException("refinement needs at least 2 gradient norms, positive and finite", nameof(norms));
        }

        var smoothed = Median(norms, 2 * ((int)(smooth * norms.Count) / 2) + 1);
        var least = smoothed.Min(); // in units of which no weight overflows
        var weights = Array.ConvertAll(smoothed, norm => Math.Pow(norm / least, -exponent));
        var rates = new double[weights.Length];
        var later = 0.0;
        for (var t = weights.Length - 1; t >= 0; t--)
        {
            rates[t] = weights[t] * later;
            later += weights[t];
        }

        var peak = rates.Max();
        return new RefinedCurve(rates.Select(rate => rate / peak));
    }

    /// <summary>Share of the peak at a step; between two places on the straight line.</summary>
    /// <param name="step">Steps done before it, from 0; after the last the last counts.</param>
    /// <param name="steps">Length of the training, which may be another than that of the refined run.</param>
    public double At(long step, long steps)
    {
        var place = (double)Math.Min(step, steps - 1) * (_shares.Length - 1) / Math.Max(1, steps - 1);
        var below = (int)place;
        var beyond = place - below;
        return beyond == 0 ? _shares[below] : (_shares[below] * (1 - beyond)) + (_shares[below + 1] * beyond);
    }

    /// <summary>Median of the odd number of neighbours around each value; the first value is repeated before the start, the end is mirrored.</summary>
    internal static double[] Median(IReadOnlyList<double> values, int width)
    {
        var half = width / 2;
        double Padded(int i) => values[i < 0 ? 0 : i < values.Count ? i : (2 * (values.Count - 1)) - i];
        var window = Enumerable.Range(-half, width).Select(Padded).Order().ToList(); // sorted, and kept so
        var medians = new double[values.Count];
        for (var i = 0; i < medians.Length; i++)
        {
            medians[i] = window[half];
            if (i + 1 < medians.Length)
            {
                window.RemoveAt(window.BinarySearch(Padded(i - half)));
                var entering = Padded(i + 1 + half);
                var place = window.BinarySearch(entering);
                window.Insert(place < 0 ? ~place : place, entering);
            }
        }

        return medians;
    }
}
