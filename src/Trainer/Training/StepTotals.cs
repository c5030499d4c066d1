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

    /// <summary>Adds one micro-batch; each a scalar.</summary>
    public void Add(Tensor loss, Tensor? balance, Tensor? z, IReadOnlyList<Tensor> dropped)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        var nothing = loss.NewZeros([], DType.Float64);
        var sums = Shaping.Stack([Wide(loss), Wide(balance), Wide(z), dropped.Select(Wide).Aggregate(nothing, (sum, count) => sum + count)]);
        if (_sums is null)
        {
            _sums = scope.Keep(sums).Detached();
        }
        else
        {
            _sums.Add_(sums);
        }

        Tensor Wide(Tensor? scalar) => scalar is null ? nothing : scalar.Detach().To(DType.Float64);
    }

    /// <summary>One exchange for all of them, and for whether anybody was asked to stop. Waits for the device.</summary>
    public void AllReduce(ProcessGroup group, bool stop)
    {
        using var scope = new TensorScope();
        group.Trace.Phase = "metrics";
        double[] own = [.. _sums?.ToArray<double>() ?? new double[4], stop ? 1 : 0];
        var sums = Tensor.From(own);
        group.AllReduce(sums);
        var values = sums.ToArray<double>();
        (Loss, Balance, Z, Dropped, Stop) = (values[0], values[1], values[2], values[3], values[4] > 0);
    }

    public void Dispose() => _sums?.Dispose();
}
