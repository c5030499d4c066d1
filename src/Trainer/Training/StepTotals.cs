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

    /// <summary>One exchange for all of them, and for whether anybody was asked to stop.</summary>
    public void AllReduce(ProcessGroup group, bool stop)
    {
        using var scope = new TensorScope();
        group.Trace.Phase = "metrics";
        var sums = Tensor.From([Loss, Balance, Z, Dropped, stop ? 1.0 : 0.0]);
        group.AllReduce(sums);
        var values = sums.ToArray<double>();
        (Loss, Balance, Z, Dropped, Stop) = (values[0], values[1], values[2], values[3], values[4] > 0);
    }
}
