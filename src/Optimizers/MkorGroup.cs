using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>Units of one shape, whose factors and gradients are worked as batches: the calls of a step don't grow with their number.</summary>
/// <remarks>Shapes: n units of p parts; a unit's gradients stacked are [R, C], R over all parts, C with the bias.</remarks>
internal sealed class MkorGroup : IDisposable
{
    // One batch of a rare expert's tokens says too little of its curvature to turn a gradient by.
    private const long ExpertUpdates = 2;

    private readonly MkorOptions _options;
    private readonly MkorUnit[] _units;
    private readonly MkorFactors _inputs;
    private readonly MkorFactors[] _outputs;
    private readonly Tensor _updates;
    private readonly Tensor[] _updateViews;

    internal MkorGroup(MkorUnit[] units, MkorOptions options)
    {
        using var scope = new TensorScope();
        (_units, _options) = (units, options);
        var type = units[0].Parts[0].Weight.Gradient.DType;
        _inputs = new MkorFactors(units.Length, units[0].Inputs, type, options);
        _outputs = Array.ConvertAll(units[0].Parts, part => new MkorFactors(units.Length, part.Rows, type, options));
        _updates = Tensor.Zeros([units.Length], DType.Int64).Detached();
        _updateViews = [.. units.Select((_, i) => _updates.Narrow(0, i, 1).Detached())];
    }

    /// <summary>Operations of <see cref="Precondition"/>: each gradient times its factors from both sides.</summary>
    internal long Operations => _units.Sum(unit => unit.Inputs * unit.Parts.Sum(part => 2 * part.Rows * (part.Rows + unit.Inputs)));

    /// <summary>The factors, and how often each unit's were updated.</summary>
    internal IEnumerable<OptimizerState> State
    {
        get
        {
            foreach (var (i, unit) in _units.Index())
            {
                var owner = unit.Parts[0].Weight;
                yield return new OptimizerState("mkor_updates", unit.Key, owner, _updateViews[i]);
                yield return new OptimizerState("mkor_input", unit.Key, owner, _inputs.Each[i]);
                foreach (var (p, part) in unit.Parts.Index())
                {
                    yield return new OptimizerState("mkor_output", part.Weight.Key, part.Weight, _outputs[p].Each[i]);
                }
            }
        }
    }

    /// <summary>Takes the sums of a step into the factors.</summary>
    /// <param name="statistics">Over all ranks.</param>
    /// <exception cref="InvalidOperationException">No row passed a layer that every token should pass.</exception>
    internal void Update(MkorStatistics statistics)
    {
        using var scope = new TensorScope();
        var shares = Array.ConvertAll(_units, unit => Share(unit, unit.Count(statistics)));
        var counts = _updates.Span<long>();
        var first = new bool[shares.Length];
        for (var i = 0; i < shares.Length; i++)
        {
            first[i] = _options.Rule == MkorRule.Code && counts[i] == 0;
            counts[i] += shares[i] > 0 ? 1 : 0;
        }

        // Inputs before outputs: an input factor that exceeds the threshold resets the output factor of the same update.
        var outputsExceed = Any(_outputs.Select(Exceeds));
        var inputsReset = Both(Any([Exceeds(_inputs), outputsExceed]), shares);
        Bring(_inputs, unit => unit.InputMean(statistics, _options.Clip), inputsReset);
        var outputsReset = Both(Any([Exceeds(_inputs), outputsExceed]), shares);
        foreach (var (p, factors) in _outputs.Index())
        {
            Bring(factors, unit => unit.OutputMean(statistics, p), outputsReset);
        }

        void Bring(MkorFactors factors, Func<MkorUnit, double[]> mean, bool[] reset)
        {
            factors.ResetWhere(reset);
            double[] weights = [.. shares.Select((share, i) => reset[i] || first[i] ? 0 : share)];
            factors.Update(Vectors(mean, weights, factors.Values.Size(1)), weights);
        }
    }

    /// <summary>Makes each gradient the product with its factors, at the norm that it had.</summary>
    internal void Precondition()
    {
        using var scope = new TensorScope();
        var gradients = new MkorGradients(_units);
        var stacked = gradients.Stack(); // [n, R, C]
        var left = Tensor.Empty(stacked.Shape, stacked.DType);
        var start = 0L;
        foreach (var output in _outputs)
        {
            var rows = output.Values.Size(1);
            output.Values.BatchMatMulInto(stacked.Narrow(1, start, rows), left.Narrow(1, start, rows));
            start += rows;
        }

        left.BatchMatMulInto(_inputs.Values, stacked);
        var counts = _updates.Span<long>();
        var ready = new bool[_units.Length];
        for (var i = 0; i < ready.Length; i++)
        {
            ready[i] = counts[i] >= (_units[i].IsExpert ? ExpertUpdates : 1);
        }

        gradients.Replace(stacked, ready, sumOfNorms: _options.Rule == MkorRule.Code);
    }

    /// <summary>Whether the next update sets a matrix's factors to the identity, as the authors' program keeps it: inputs, outputs. Null for a key that isn't here.</summary>
    internal (bool Input, bool Output)? ResetFlags(string key)
    {
        using var scope = new TensorScope();
        var i = Array.FindIndex(_units, unit => unit.Parts.Any(part => part.Weight.Key == key));
        if (i < 0)
        {
            return null;
        }

        var isNew = _updates.Span<long>()[i] == 0;
        var outputs = Any(_outputs.Select(Exceeds))[i];
        return (isNew || outputs || Exceeds(_inputs)[i], isNew || outputs);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _inputs.Dispose();
        Array.ForEach(_outputs, output => output.Dispose());
        Array.ForEach(_updateViews, view => view.Dispose());
        _updates.Dispose();
    }

    // 0 where the factors stay as they are.
    private double Share(MkorUnit unit, double rows)
    {
        if (!unit.IsExpert)
        {
            return rows > 0 ? 1 : throw new InvalidOperationException(
                $"no row passed '{unit.Key}' in a step that updates its MKOR factors; name it in optimizer.mkor.skip if it is to stay first-order");
        }

        if (rows < Math.Max(1, _options.MinTokens))
        {
            return 0;
        }

        return _options.MeanExpertRows > 0 ? Math.Min(1, rows / _options.MeanExpertRows) : 1;
    }

    private bool[] Exceeds(MkorFactors factors) =>
        _options.Rule == MkorRule.Code ? Array.ConvertAll(factors.Largest(), magnitude => magnitude > _options.Threshold) : new bool[_units.Length];

    private bool[] Any(IEnumerable<bool[]> flags) => flags.Aggregate(new bool[_units.Length], (any, one) => [.. any.Zip(one, (x, y) => x || y)]);

    private static bool[] Both(bool[] flags, double[] shares) => [.. flags.Zip(shares, (flag, share) => flag && share > 0)];

    // Without tokens there is no mean; where nothing is brought in, the vector doesn't count.
    private Tensor Vectors(Func<MkorUnit, double[]> mean, double[] weights, long size)
    {
        var vectors = Tensor.Zeros([_units.Length, size], DType.Float64);
        var values = vectors.Span<double>();
        for (var i = 0; i < weights.Length; i++)
        {
            if (weights[i] > 0)
            {
                mean(_units[i]).CopyTo(values[(int)(i * size)..]);
            }
        }

        return vectors;
    }
}
