using Moe.Torch;
using Moe.Training;
using Moe.Training.Configuration;

namespace Moe.Tests.Training;

/// <summary>An optimizer whose steps have to be the same on every mesh, shared out or not.</summary>
/// <param name="Name">For messages and files.</param>
/// <param name="Optimizer">Its settings.</param>
internal sealed record ShardingCase(string Name, OptimizerConfig Optimizer)
{
    /// <summary>Steps up to the checkpoint.</summary>
    public const int StepsBefore = 3;

    /// <summary>Steps of the whole run.</summary>
    public const int Steps = 5;

    // Six experts, three of a rank of two, are divisible by two replicas on one mesh and not on the other.
    private const int Experts = 6;
    private const int IdleExpert = 4;

    /// <summary>Every optimizer there is, and several for one model, one expert by itself among them; a new one is one more line.</summary>
    /// <remarks>The rates are small where a step doesn't shrink with its gradient: there the rounding of a tiny gradient becomes that of a whole step.</remarks>
    public static readonly ShardingCase[] All =
    [
        new("adamw", new() { Name = OptimizerName.AdamW, LearningRate = 0.001 }),
        new("adamw-amsgrad", new() { Name = OptimizerName.AdamW, LearningRate = 0.001, Amsgrad = true }),
        new("adabelief", new() { Name = OptimizerName.AdaBelief, LearningRate = 0.001 }),
        new("lamb", new() { Name = OptimizerName.Lamb, LearningRate = 0.001 }),
        new("lars", new() { Name = OptimizerName.Lars, LearningRate = 0.1 }),
        new("muon", new() { Name = OptimizerName.Muon, LearningRate = 0.001, Muon = new() { Precision = Precision.Float64 } }),
        new("drop_muon", new() { Name = OptimizerName.DropMuon, LearningRate = 0.001, Muon = new() { Precision = Precision.Float64 } }),
        new("mkor", new() { Name = OptimizerName.AdamW, LearningRate = 0.001, Precondition = Precondition.Mkor, Mkor = new() { InverseFrequency = 2 } }),
        new("mixed", new()
        {
            LearningRate = 0.001,
            Muon = new() { Precision = Precision.Float64 },
            Rules = [new() { Match = "layers.*.moe.experts.0.*", Optimizer = OptimizerName.Muon }, new() { Kind = ParameterKind.Head, Optimizer = OptimizerName.Lamb }],
        }),
        new("sgd", new() { Name = OptimizerName.Sgd, LearningRate = 0.5, Momentum = 0.9, Nesterov = true, WeightDecay = 0.01 }),
    ];

    /// <summary>Whether the state of every parameter is as many tensors of its shape.</summary>
    public bool KeepsAlike => Optimizer is { Rules.Count: 0, Precondition: Precondition.None, Name: not (OptimizerName.Muon or OptimizerName.DropMuon) };

    /// <summary>The configuration, but for what belongs to the mesh: with clipping at every step, and expert-parallel experts of uneven load.</summary>
    public RunConfig Config(string folder, Precision precision)
    {
        var config = TinyRun.Config(folder);
        return config with
        {
            Model = config.Model with { Moe = config.Model.Moe with { Experts = Experts } },
            Optimizer = Optimizer,
            Train = config.Train with { ClipNorm = 0.3, Precision = precision },
        };
    }

    /// <summary>Keeps all tokens of the first layer from one expert.</summary>
    public static void MakeIdle(TrainingSession session)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        session.Model.SelectionBiases[0].Value.Narrow(0, IdleExpert, 1).Fill_(-1000);
    }
}
