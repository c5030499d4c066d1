using Moe.Distributed;
using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>From the configuration's section <c>optimizer.mkor</c> to what stands between the gradients and the optimizer.</summary>
internal static class MkorAssembly
{
    /// <summary>The optimizer itself, or MKOR over it, as <c>optimizer.precondition</c> says.</summary>
    /// <param name="config">Checked.</param>
    /// <param name="inner">The first-order optimizer.</param>
    /// <param name="stored">The model's parameters.</param>
    /// <param name="stepped">What <paramref name="inner"/> steps.</param>
    /// <param name="mesh">All ranks.</param>
    /// <param name="tokensPerStep">Of the global batch.</param>
    public static Optimizer Over(
        RunConfig config, Optimizer inner, IReadOnlyList<Parameter> stored, IReadOnlyList<LogicalParameter> stepped, DeviceMesh mesh, long tokensPerStep) =>
        config.Optimizer.Precondition switch
        {
            Precondition.Mkor => new Mkor(stored, stepped, inner, new ParameterPlacement(mesh), Options(config, tokensPerStep)),
            Precondition.MkorH => new Mkor(stored, stepped, inner, new ParameterPlacement(mesh), Options(config, tokensPerStep), new MkorSwitch(Switch(config))),
            _ => inner,
        };

    /// <summary>Operations that preconditioning one matrix [R, C] takes: 2 R C (R + C); 0 where nothing is preconditioned.</summary>
    public static double Operations(OptimizerConfig config, ParameterKind kind, long rows, long columns) =>
        config.Precondition != Precondition.None && kind is (ParameterKind.Matrix or ParameterKind.Expert) ? 2.0 * rows * columns * (rows + columns) : 0;

    private static MkorOptions Options(RunConfig config, long tokensPerStep)
    {
        var (mkor, moe) = (config.Optimizer.Mkor, config.Model.Moe);
        return new MkorOptions(
            mkor.Rule == MkorUpdate.Exact ? MkorRule.Exact : MkorRule.Code,
            mkor.InverseFrequency,
            mkor.WarmupSteps,
            mkor.Clip,
            mkor.Gamma,
            mkor.Zeta,
            mkor.Threshold,
            mkor.MinTokens,
            mkor.LoadAware ? (double)tokensPerStep * moe.TopK / moe.Experts : 0)
        {
            Skip = [.. mkor.Skip.Select(pattern => pattern.Match)],
        };
    }

    private static MkorSwitchOptions Switch(RunConfig config)
    {
        var mkor = config.Optimizer.Mkor;
        return new MkorSwitchOptions(mkor.SwitchWindow, mkor.SwitchTheta, mkor.SwitchMinStep, config.Schedule.WarmupSteps);
    }
}
