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

    /// <summary>What it costs to step a stored parameter, as a multiple of stepping one element; null for an optimizer whose cost is its elements.</summary>
    public static Func<Parameter, double>? Cost(OptimizerConfig config)
    {
        // A matrix [R, C] takes 2 R C (R + C) operations, of which a core makes some 64 while memory delivers one weight with its state.
        const double OperationsPerElement = 64;
        return config.Precondition == Precondition.None
            ? null
            : parameter => parameter.Value.Count * (parameter.Kind is ParameterKind.Matrix or ParameterKind.Expert
                ? 1 + (parameter.Parts.Average(part => part.Length + parameter.Value.Size(-1)) * 2 / OperationsPerElement)
                : 1.0);
    }

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
