using Moe.Training.Configuration;

namespace Moe.Tests.Training;

/// <summary>Configurations whose plan is held against what a real run allocates and sends.</summary>
internal static class PlanningCase
{
    public static readonly string[] Names = ["adamw", "sgd", "muon", "mkor", "replicas", "unsharded", "amsgrad rules", "exact counts", "all_gather", "chunks", "two_level", "two_level chunks", "dense layers", "float64", "bfloat16 weights", "bfloat16 state", "experts again", "block again", "block again peri", "block again all_gather"];

    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="folder">With the text of <see cref="TinyRun"/>.</param>
    public static RunConfig Config(string name, string folder)
    {
        var config = TinyRun.Config(folder);

        // Every token goes to every expert, so that the rows which leave a rank are known beforehand.
        config = config with { Model = config.Model with { Moe = config.Model.Moe with { TopK = 8 } }, Train = config.Train with { MicroBatch = 2 } };
        return name switch
        {
            "adamw" => With(config, new() { Name = OptimizerName.AdamW }),
            "sgd" => With(config, new() { Name = OptimizerName.Sgd, Momentum = 0.9 }),
            "muon" => With(config, new() { Name = OptimizerName.Muon }),
            "mkor" => With(config, new() { Name = OptimizerName.Sgd, Momentum = 0.9, Precondition = Precondition.Mkor, Mkor = new() { InverseFrequency = 1 } }),
            "replicas" => With(config, new() { Name = OptimizerName.AdamW }) with { Parallel = config.Parallel with { ExpertParallel = 2 } },
            "unsharded" => With(config, new() { Name = OptimizerName.Lamb }) with { Parallel = config.Parallel with { ExpertParallel = 1, ShardOptimizer = false } },
            "amsgrad rules" => With(config, new() { Name = OptimizerName.AdamW, Amsgrad = true, Rules = [new() { Kind = Moe.Torch.ParameterKind.Router, Optimizer = OptimizerName.Sgd }] }),
            "exact counts" => config with
            {
                Balance = config.Balance with { Accumulation = BalanceAccumulation.Exact },
                Train = config.Train with { Accumulation = 3 },
            },
            "all_gather" => config with { Parallel = config.Parallel with { Dispatcher = DispatcherName.AllGather } },
            "chunks" => config with { Parallel = config.Parallel with { DispatchChunks = 3 } },
            "two_level" => config with { Parallel = config.Parallel with { Dispatcher = DispatcherName.TwoLevel } },
            "two_level chunks" => config with { Parallel = config.Parallel with { Dispatcher = DispatcherName.TwoLevel, DispatchChunks = 2 } },
            "dense layers" => config with { Model = config.Model with { DenseLayers = 1, TieEmbeddings = true, QueryKeyNorm = true, Norm = NormPlacement.Peri, Moe = config.Model.Moe with { SharedExperts = 1 } } },
            "bfloat16 weights" => With(config, new() { Name = OptimizerName.AdamW }) with { Train = config.Train with { Precision = Precision.BFloat16, Weights = StoredType.BFloat16 } },
            "bfloat16 state" => With(config, new() { Name = OptimizerName.AdamW, StateType = StoredType.BFloat16, MasterWeights = false })
                with
            { Train = config.Train with { Precision = Precision.BFloat16, Weights = StoredType.BFloat16 } },
            "experts again" => Again(config, Recompute.Experts, null),
            "block again" => Again(config, Recompute.Block, 1),
            "block again peri" => Again(config with { Model = config.Model with { DenseLayers = 1, Norm = NormPlacement.Peri } }, Recompute.Block, null),
            "block again all_gather" => Again(config with { Parallel = config.Parallel with { Dispatcher = DispatcherName.AllGather } }, Recompute.Block, null),
            "float64" => config with { Train = config.Train with { Precision = Precision.Float64 } },
            _ => throw new ArgumentException($"there is no case '{name}'", nameof(name)),
        };
    }

    private static RunConfig Again(RunConfig config, Recompute recompute, int? layers) =>
        config with { Train = config.Train with { Recompute = recompute, RecomputeLayers = layers } };

    private static RunConfig With(RunConfig config, OptimizerConfig optimizer) => config with { Optimizer = optimizer };
}
