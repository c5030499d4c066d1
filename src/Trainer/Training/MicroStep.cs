using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>Forward, losses and backward of one micro-batch: gradients are added to the parameters', the rest is for the step to add up.</summary>
/// <param name="model">This rank's share of the model.</param>
/// <param name="mesh">All ranks.</param>
/// <param name="balance">What keeps the experts equally loaded.</param>
/// <param name="sequencesPerSegment">Sequences of a micro-batch that are balanced and capped together.</param>
internal sealed class MicroStep(Transformer model, DeviceMesh mesh, BalanceConfig balance, int sequencesPerSegment)
{
    private readonly int _moeLayers = model.SelectionBiases.Count;

    /// <summary>Makes it. Everything stays on the device, and nothing waits for it unless the ranks exchange something.</summary>
    /// <param name="batch">This rank's micro-batch.</param>
    /// <param name="load">Takes the choices of all ranks in.</param>
    /// <param name="wholeBatch">Counts that balancing goes by; null for <paramref name="load"/> as far as it has come.</param>
    /// <returns>This rank's sums over the tokens, as <see cref="StepTotals"/> adds them up; of the open scope.</returns>
    public Tensor Run(MicroBatch batch, ExpertLoad load, ExpertLoad? wholeBatch)
    {
        var (loss, sums) = Forward(batch, load, wholeBatch);
        mesh.World.Trace.Phase = "backward";
        using var span = Spans.Phase("backward");
        Autograd.Backward(loss);
        return sums;
    }

    private (Tensor Loss, Tensor Sums) Forward(MicroBatch batch, ExpertLoad load, ExpertLoad? wholeBatch)
    {
        using var phase = Spans.Phase("forward");
        var forward = model.Forward(
            batch.Tokens, batch.Targets, balance.Scope == BalanceScope.Sequence ? 1 : sequencesPerSegment, sequencesPerSegment, load.Add);
        using var span = Spans.Open("balance");
        var (loss, balanceLoss, z) = (forward.LossSum, (Tensor?)null, (Tensor?)null);
        if (_moeLayers > 0)
        {
            balanceLoss = BalanceLossOf(forward, wholeBatch ?? load);
            loss = balanceLoss is not null && balance.Coefficient > 0 ? loss + balanceLoss * balance.Coefficient : loss;
            z = BalanceLoss.RouterZ(forward.Routers);
            loss = balance.ZLoss > 0 ? loss + z * balance.ZLoss : loss;
        }

        return (loss, StepTotals.Sums(forward.LossSum, balanceLoss, z, [.. forward.Routers.Select(router => router.Dropped)]));
    }

    private Tensor? BalanceLossOf(ForwardResult forward, ExpertLoad load) => balance.Scope switch
    {
        BalanceScope.None => null,
        BalanceScope.Global => BalanceLoss.Global(forward.Routers, BalanceLoss.Fractions(load.ToTensor().To(forward.LossSum.Device))),
        _ => BalanceLoss.Local(forward.Routers),
    };
}
