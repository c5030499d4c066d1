using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training;

/// <summary>
/// Sums over the tokens of a step: of this rank, and after <see cref="AllReduce"/> of all ranks. They stay on the device until then, so that backward
/// is queued without a wait for forward.
/// </summary>
internal sealed class StepTotals : IDisposable
{
    private Tensor? _sums; // [4] float64: loss, balance, z, dropped

    public double Loss { get; private set; }

    public double Balance { get; private set; }

    public double Z { get; private set; }

    public double Dropped { get; private set; }

    public bool Stop { get; private set; }

    /// <summary>Numbers of each rank by key, each [ranks]; null where none were taken along.</summary>
    public IReadOnlyDictionary<string, double[]>? Ranks { get; private set; }

    /// <summary>What one micro-batch has of each sum, [4] float64; each argument a scalar.</summary>
    public static Tensor Sums(Tensor loss, Tensor? balance, Tensor? z, IReadOnlyList<Tensor> dropped)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        var nothing = loss.NewZeros([], DType.Float64);
        var drops = dropped.Count == 0 ? nothing : Shaping.Stack([.. dropped]).Sum().To(DType.Float64);
        return scope.Keep(Shaping.Stack([Wide(loss), Wide(balance), Wide(z), drops]));

        Tensor Wide(Tensor? scalar) => scalar is null ? nothing : scalar.Detach().To(DType.Float64);
    }

    /// <summary>Adds one micro-batch.</summary>
    /// <param name="sums">Of <see cref="Sums"/>.</param>
    public void Add(Tensor sums)
    {
        using var mode = Autograd.NoGrad();
        if (_sums is null)
        {
            _sums = sums.Clone().Detached();
        }
        else
        {
            _sums.Add_(sums);
        }
    }

    /// <summary>
    /// One exchange for all of them, for whether anybody was asked to stop, and for what each rank measured of itself. Waits for the device.
    /// </summary>
    /// <param name="group">All ranks.</param>
    /// <param name="stop">Whether this rank was asked to stop.</param>
    /// <param name="meter">Read for its numbers, once the device is done; null on all ranks to leave them out.</param>
    /// <param name="step">The step under way, the first being 1.</param>
    public void AllReduce(ProcessGroup group, bool stop, RankMeter? meter, long step)
    {
        using var scope = new TensorScope();
        group.Trace.Phase = "metrics";
        double[] totals = [.. _sums?.ToArray<double>() ?? new double[4], stop ? 1 : 0];
        var own = meter?.Read(step);
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

    public void Dispose() => _sums?.Dispose();
}
