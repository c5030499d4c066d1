using Moe.Optimizers;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Configuration;

namespace Moe.Tests.Training;

/// <summary>A way to step experts within backward that has to be, to the last bit, the step behind it.</summary>
/// <param name="Name">For messages.</param>
/// <param name="Change">From <see cref="TinyRun.Config"/>.</param>
internal sealed record StepInBackwardCase(string Name, Func<RunConfig, RunConfig> Change)
{
    private static readonly OptimizerConfig AdamW = new() { Name = OptimizerName.AdamW, LearningRate = 0.01 };

    public static readonly StepInBackwardCase[] All =
    [
        new("adamw", c => c with { Optimizer = AdamW }),
        new("adamw, float64, idle as published", c => c with { Optimizer = AdamW with { Idle = IdlePolicy.Reference }, Train = c.Train with { Precision = Precision.Float64 } }),
        new("adamw, amsgrad, coupled decay", c => c with { Optimizer = AdamW with { Amsgrad = true, Decay = DecayForm.Coupled } }),
        new("adamw, bfloat16 state", c => Narrow(c) with { Optimizer = AdamW with { StateType = StoredType.BFloat16, MasterWeights = false } }),
        new("adamw, bfloat16 weights with masters", c => Narrow(c) with { Optimizer = AdamW }),
        new("adamw, float32 weights worked in bfloat16", c => c with { Optimizer = AdamW, Train = c.Train with { Precision = Precision.BFloat16 } }),
        new("adabelief", c => c with { Optimizer = new() { Name = OptimizerName.AdaBelief, LearningRate = 0.01 } }),
        new("sgd", c => c with { Optimizer = c.Optimizer with { Idle = IdlePolicy.Reference } }),
        new("sgd worked in bfloat16", c => c with { Train = c.Train with { Precision = Precision.BFloat16 } }),
        new("lars", c => c with { Optimizer = new() { Name = OptimizerName.Lars, LearningRate = 0.1 } }),
        new("lamb", c => c with { Optimizer = new() { Name = OptimizerName.Lamb, LearningRate = 0.01, Lamb = new() { MaxGradientNorm = null } } }),
        new("muon", c => c with { Optimizer = new() { Name = OptimizerName.Muon, LearningRate = 0.01, Muon = new() { Precision = Precision.Float64 } } }),
        new("several for one matrix", c => c with
        {
            Optimizer = AdamW with
            {
                Rules = [new() { Match = "layers.*.moe.experts.*.up", Optimizer = OptimizerName.Sgd }, new() { Match = "layers.1.moe.experts.3.*", Optimizer = OptimizerName.Lars }],
            },
        }),
        new("one expert's by another, bfloat16 state", c => Narrow(c) with
        {
            Optimizer = AdamW with
            {
                StateType = StoredType.BFloat16,
                MasterWeights = false,
                Rules = [new() { Match = "layers.*.moe.experts.7.*", WeightDecay = 0.3 }, new() { Match = "layers.1.moe.experts.*.gate", LearningRate = 0.02 }],
            },
        }),
        new("muon in bfloat16", c => c with { Optimizer = new() { Name = OptimizerName.Muon, LearningRate = 0.01 } }),
        new("adamw, experts of limited capacity", c => c with { Optimizer = AdamW, Model = c.Model with { Moe = c.Model.Moe with { CapacityFactor = 0.75 } } }),
        new("adamw, falling rate", c => c with { Optimizer = AdamW, Schedule = c.Schedule with { Name = ScheduleName.Linear } }),
        new("experts computed again", c => c with { Optimizer = AdamW, Train = c.Train with { Recompute = Recompute.Experts } }),
        new("blocks computed again, shared experts", c => c with
        {
            Optimizer = AdamW,
            Train = c.Train with { Recompute = Recompute.Block },
            Model = c.Model with { DenseLayers = 1, Moe = c.Model.Moe with { SharedExperts = 1 } },
        }),
    ];

    // One of eight, of which a rank of two holds the last four.
    private const int IdleExpert = 5;

    /// <summary>The configuration, but for what belongs to the mesh.</summary>
    public RunConfig Config(string folder, bool inBackward)
    {
        var config = Change(TinyRun.Config(folder));
        return config with { Optimizer = config.Optimizer with { ExpertsInBackward = inBackward } };
    }

    /// <summary>Makes some steps, with an expert that is idle in the second one.</summary>
    /// <returns>Of each step the norm of its gradient and the bytes of gradients behind it.</returns>
    public static List<(double Norm, long Bytes)> Train(TrainingSession session)
    {
        List<(double, long)> steps = [];
        for (var step = 0; step < 4; step++)
        {
            using (Autograd.NoGrad())
            using (new TensorScope())
            {
                session.Model.SelectionBiases[0].Value.Narrow(0, IdleExpert, 1).Fill_(step == 1 ? -1000 : 0);
            }

            var result = session.Advance(stop: false);
            steps.Add((result.GradientNorm, session.GradientBytes));
        }

        return steps;
    }

    private static RunConfig Narrow(RunConfig config) => config with { Train = config.Train with { Precision = Precision.BFloat16, Weights = StoredType.BFloat16 } };
}
