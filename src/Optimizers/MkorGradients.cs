using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>The gradients of units of one shape, gathered as one batch and put back: a fixed number of calls, however many they are.</summary>
/// <param name="units">Of one shape.</param>
internal sealed class MkorGradients(MkorUnit[] units)
{
    private readonly Tensor[] _weights = [.. units.SelectMany(unit => unit.Parts).Select(part => part.Weight.Gradient)];
    private readonly Tensor[]? _biases = units[0].Bias is null ? null : Array.ConvertAll(units, unit => unit.Bias!.Gradient);

    /// <summary>A copy [n, R, C], the bias as last column.</summary>
    internal Tensor Stack()
    {
        var weights = Shaping.Concatenate(_weights);
        var all = _biases is null ? weights : Shaping.Concatenate([weights, Shaping.Concatenate(_biases).View(-1, 1)], 1);
        return all.View(units.Length, -1, all.Size(1));
    }

    /// <summary>Writes new gradients at the norms of the old ones. Where that gives no number, as for a gradient of zeros, the old one stays.</summary>
    /// <param name="stacked">[n, R, C].</param>
    /// <param name="ready">Units that take the new ones.</param>
    /// <param name="sumOfNorms">Whether a layer's norm is the sum of weight's and bias's; else that of both as one vector.</param>
    internal void Replace(Tensor stacked, bool[] ready, bool sumOfNorms)
    {
        var rows = stacked.View(-1, stacked.Size(2));
        var columns = _weights[0].Size(1);
        var weights = (_biases is null ? rows : rows.Narrow(1, 0, columns).Contiguous()).Split([.. _weights.Select(weight => weight.Size(0))]);
        var biases = _biases is null ? [] : rows.Narrow(1, columns, 1).Contiguous().View(-1).Split([.. _biases.Select(bias => bias.Count)]);
        var before = Norms(_weights, _biases, sumOfNorms);
        var after = Norms(weights, biases, sumOfNorms);
        var parts = units[0].Parts.Length;
        List<(Tensor Target, Tensor Source, double Scale)> changes = [];
        for (var i = 0; i < _weights.Length; i++)
        {
            var scale = before[i] / after[i];
            if (ready[i / parts] && double.IsFinite(scale))
            {
                changes.Add((_weights[i], weights[i], scale));
                if (_biases is not null)
                {
                    changes.Add((_biases[i], biases[i], scale));
                }
            }
        }

        Write(changes);
    }

    private static double[] Norms(Tensor[] weights, Tensor[]? biases, bool sum)
    {
        var norms = MultiTensor.Norms(weights);
        return biases is null or []
            ? norms
            : [.. norms.Zip(MultiTensor.Norms(biases), (weight, bias) => sum ? weight + bias : double.Hypot(weight, bias))];
    }

    private static void Write(List<(Tensor Target, Tensor Source, double Scale)> changes)
    {
        if (changes.Count == 0)
        {
            return;
        }

        var scales = new double[changes.Count, 2];
        for (var i = 0; i < changes.Count; i++)
        {
            scales[i, 1] = changes[i].Scale;
        }

        MultiTensor.Update(
            UpdateRule.ScaledSum, scales, [.. changes.Select(change => change.Target)], [.. changes.Select(change => change.Source)]);
    }
}
