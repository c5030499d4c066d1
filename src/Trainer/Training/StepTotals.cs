using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training;

/// <summary>Sums over the tokens of a step: of this rank, and after <see cref="AllReduce"/> of all ranks.</summary>
internal sealed class StepTotals
{
    public double Loss { get; set; }

    public double Balance { get; set; }

    public double Z { get; set; }

    public double Dropped { get; set; }

    public bool Stop { get; private set; }

    /// <summary>Numbers of each rank by key, each [ranks]; null where none were taken along.</summary>
    public IReadOnlyDictionary<string, double[]>? Ranks { get; private set; }

    /// <summary>One exchange for all of them, for whether anybody was asked to stop, and for what each rank measured of itself.</summary>
    /// <param name="group">All ranks.</param>
    /// <param name="stop">Whether this rank was asked to stop.</param>
    /// <param name="own">This rank's numbers by <see cref="RankMeter.Keys"/>; null on all ranks to leave them out.</param>
    public void AllReduce(ProcessGroup group, bool stop, double[]? own)
    {
        using var scope = new TensorScope();
        group.Trace.Phase = "metrics";
        double[] totals = [Loss, Balance, Z, Dropped, stop ? 1.0 : 0.0];
        var numbers = own?.Length ?? 0;
        var values = new double[totals.Length + (group.Size * numbers)];
        totals.CopyTo(values, 0);
        own?.CopyTo(values, totals.Length + (group.Rank * numbers)); // the others add zeros to it
        var sums = Tensor.From(values);
        group.AllReduce(sums);
        values = sums.ToArray<double>();
        (Loss, Balance, Z, Dropped, Stop) = (values[0], values[1], values[2], values[3], values[4] > 0);
        Ranks = own is null ? null : RankMeter.Keys.Index().ToDictionary(
            key => key.Item, key => Enumerable.Range(0, group.Size).Select(rank => values[totals.Length + (rank * numbers) + key.Index]).ToArray());
    }
}
