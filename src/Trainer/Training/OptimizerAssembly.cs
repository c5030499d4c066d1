using Moe.Distributed;
using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>From the configuration's section <c>optimizer</c> to the optimizer, which knows nothing of configurations.</summary>
internal static class OptimizerAssembly
{
    // 274 GB/s move 4 MiB in 15 us, about what a collective costs to start.
    private const long DeviceBucketBytes = 64 << 20;

    /// <summary>The optimizer that the configuration names, with parts for those of the model's parameters that it gives to others.</summary>
    /// <param name="config">Checked.</param>
    /// <param name="parameters">What this rank steps. Every rank has the same parts in the same order, also those that it steps nothing with.</param>
    public static Optimizer Build(RunConfig config, IReadOnlyList<LogicalParameter> parameters)
    {
        var assignment = new OptimizerAssignment(ModelAssembly.Options(config.Model), config.Optimizer);
        var choices = assignment.Choices;
        if (choices is [var only] && only.LearningRate == config.Optimizer.LearningRate)
        {
            return One(config, With(config.Optimizer, only), parameters);
        }

        var shares = parameters.ToLookup(parameter => assignment.Of(parameter.Key, parameter.Kind, parameter.Value.Rank == 1));
        return new CompositeOptimizer([.. choices.Select((choice, i) => new OptimizerGroup(
            Name(choices, i),
            One(config, With(config.Optimizer, choice), [.. shares[choice]]),
            choice.LearningRate / config.Optimizer.LearningRate))]);
    }

    /// <summary>The optimizer of one choice alone, over some parameters.</summary>
    /// <param name="config">Checked.</param>
    /// <param name="choice">One of <see cref="OptimizerAssignment.Choices"/>.</param>
    /// <param name="parameters">What it steps.</param>
    public static Optimizer Build(RunConfig config, OptimizerChoice choice, IReadOnlyList<LogicalParameter> parameters) =>
        One(config, With(config.Optimizer, choice), parameters);

    /// <summary>How the steps are shared out among the ranks.</summary>
    /// <param name="config">Checked.</param>
    public static GradientReductionOptions Reduction(RunConfig config)
    {
        var assignment = new OptimizerAssignment(ModelAssembly.Options(config.Model), config.Optimizer);
        var orthogonalised = assignment.Parameters
            .GroupBy(parameter => OptimizerAssignment.Pattern(parameter.Key, numbersKept: 1))
            .ToDictionary(alike => alike.Key, alike => alike.Average(parameter => OptimizerAssignment.NeedsMatrix(assignment.Of(parameter).Optimizer) ? 1.0 : 0));
        var muon = MuonAssembly.Options(config.Optimizer).Direction;
        return new GradientReductionOptions(
            config.Parallel.ShardOptimizer,
            config.Optimizer.Names.Contains(OptimizerName.DropMuon),
            parameter => Cost(parameter, Operations),
            Direct: config.Optimizer.Precondition == Precondition.None && (config.Train.Accumulation == 1 || config.Train.Weights == StoredType.Float32))
        {
            BucketBytes = config.Parallel.Device == DeviceName.Cuda ? DeviceBucketBytes : GradientReductionOptions.DefaultBucketBytes,
            StepExpertsInBackward = config.Optimizer.ExpertsInBackward,
        };

        double Operations(Parameter parameter, string key, long rows, long columns) =>
            (orthogonalised[OptimizerAssignment.Pattern(key, numbersKept: 1)] * muon.Operations(rows, columns))
            + MkorAssembly.Operations(config.Optimizer, parameter.Kind, rows, columns);
    }

    // In elements stepped: a core makes some 64 operations of a product while memory delivers one weight with its state. An expert costs what those
    // of its layer do on average, since all ranks must come to the same cost, whichever experts they hold.
    private static double Cost(Parameter parameter, Func<Parameter, string, long, long, double> operations)
    {
        const double OperationsPerElement = 64;
        var ofOneExpert = parameter.Keys.Zip(parameter.Parts).Sum(part => operations(parameter, part.First, part.Second.Length, parameter.Value.Size(-1)));
        return parameter.Value.Count + (ofOneExpert * (parameter.ExpertIds?.Length ?? 1) / OperationsPerElement);
    }

    // Another optimizer is one more line here.
    private static Optimizer One(RunConfig run, OptimizerConfig config, IReadOnlyList<LogicalParameter> parameters) => config.Name switch
    {
        OptimizerName.AdamW => new AdamW(parameters, AdamW(config)),
        OptimizerName.Sgd => new Sgd(parameters, Sgd(config)),
        OptimizerName.AdaBelief => new AdaBelief(parameters, AdaBelief(config)),
        OptimizerName.Lamb => new Lamb(parameters, Lamb(config)),
        OptimizerName.Lars => new Lars(parameters, Lars(config)),
        OptimizerName.Muon => new Muon(parameters, MuonAssembly.Options(config)),
        OptimizerName.DropMuon => new DropMuon(parameters, MuonAssembly.Options(config), MuonAssembly.Draw(run)),
        _ => throw new ArgumentOutOfRangeException(nameof(config), config.Name, "an optimizer without a class"),
    };

    private static OptimizerConfig With(OptimizerConfig config, OptimizerChoice choice) => config with { Name = choice.Optimizer, WeightDecay = choice.WeightDecay };

    // Stable in checkpoints while the rules stay: adamw, muon, adamw-2.
    private static string Name(IReadOnlyList<OptimizerChoice> choices, int place)
    {
        var alike = choices.Take(place + 1).Count(choice => choice.Optimizer == choices[place].Optimizer);
        var name = ConfigChoices.Spelling(choices[place].Optimizer);
        return alike == 1 ? name : FormattableString.Invariant($"{name}-{alike}");
    }

    private static AdamWOptions AdamW(OptimizerConfig config) =>
        new(
            config.Beta1,
            config.Beta2,
            config.Epsilon ?? 1e-8,
            config.WeightDecay,
            config.Decay,
            config.Amsgrad,
            Idle: config.Idle,
            StateType: config.StateType == StoredType.BFloat16 ? DType.BFloat16 : DType.Float32,
            Master: config.MasterWeights);

    private static SgdOptions Sgd(OptimizerConfig config) =>
        new(config.Momentum ?? 0.9, config.Dampening, config.Nesterov, config.WeightDecay, config.Decay, Idle: config.Idle);

    private static AdaBeliefOptions AdaBelief(OptimizerConfig config) => new(
        config.Beta1,
        config.Beta2,
        config.Epsilon ?? 1e-16,
        config.WeightDecay,
        config.Decay,
        config.Amsgrad,
        config.Adabelief.Rectify,
        config.Adabelief.DegenerateToSgd,
        config.Idle);

    private static LambOptions Lamb(OptimizerConfig config) => new(
        config.Beta1,
        config.Beta2,
        config.Epsilon ?? 1e-6,
        config.WeightDecay,
        config.Lamb.Decay,
        config.Lamb.BiasCorrection,
        config.Lamb.GradientAveraging,
        config.Lamb.MaxGradientNorm,
        config.Lamb.TrustClip,
        config.Lamb.AlwaysAdapt,
        config.Idle);

    private static LarsOptions Lars(OptimizerConfig config) => new(
        config.Momentum ?? 0.9,
        config.Dampening,
        config.Nesterov,
        config.WeightDecay,
        config.Lars.TrustCoefficient,
        config.Epsilon ?? 1e-8,
        config.Lars.TrustClip,
        config.Lars.AlwaysAdapt,
        config.Lars.DecayWithoutGradient,
        config.Idle);
}
