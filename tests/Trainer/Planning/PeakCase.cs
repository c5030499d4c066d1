using Moe.Training.Configuration;

namespace Moe.Tests.Training;

/// <summary>Configurations whose planned peak is held against what a step really takes: dense parameters and few tokens, but where the name says otherwise.</summary>
internal static class PeakCase
{
    public static readonly string[] Names =
    [
        "few tokens", "many tokens", "wide experts", "large head", "tied head", "shared experts", "dense layers", "peri norm", "unsharded", "replicas", "accumulation", "layers again",
        "bfloat16", "bfloat16 weights", "large head, bfloat16", "dense layers, bfloat16", "drawn", "drawn again", "within backward", "within backward, bfloat16", "within backward, muon",
    ];

    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="folder">With the text of <see cref="TinyRun"/>.</param>
    /// <param name="random">Draws the shapes that the name leaves open.</param>
    public static RunConfig Config(string name, string folder, Random random)
    {
        // Every token goes to every expert, so that the rows are known beforehand.
        var config = TinyRun.Config(folder, (ulong)random.Next());
        config = config with
        {
            Model = config.Model with { Layers = 6, DenseLayers = 1, Width = 192, Heads = 4, Moe = config.Model.Moe with { TopK = 8 } },
            Data = config.Data with { Random = true },
            Train = config.Train with { MicroBatch = 1 },
        };
        var (model, train) = (config.Model, config.Train);
        return name switch
        {
            "few tokens" => config,
            "many tokens" => config with { Train = train with { MicroBatch = 16 } },
            "wide experts" => config with { Model = model with { Moe = model.Moe with { ExpertWidth = 256 } } },
            "large head" => config with { Model = model with { Vocabulary = 4096 } },
            "tied head" => config with { Model = model with { Vocabulary = 2048, TieEmbeddings = true } },
            "shared experts" => config with { Model = model with { Moe = model.Moe with { SharedExperts = 2, ExpertWidth = 64 } } },
            "dense layers" => config with { Model = model with { DenseLayers = model.Layers }, Train = train with { MicroBatch = 4 } },
            "peri norm" => config with { Model = model with { Norm = NormPlacement.Peri, QueryKeyNorm = true }, Train = train with { MicroBatch = 4 } },
            "unsharded" => config with { Parallel = config.Parallel with { ShardOptimizer = false } },
            "replicas" => config with { Parallel = config.Parallel with { ExpertParallel = 1 } },
            "accumulation" => config with { Train = train with { Accumulation = 2 } },
            "layers again" => config with { Train = train with { Recompute = Recompute.Block } },
            "bfloat16" => config with { Train = train with { Precision = Precision.BFloat16, MicroBatch = 4 } },
            "bfloat16 weights" => config with
            {
                Optimizer = new() { Name = OptimizerName.AdamW },
                Train = train with { Precision = Precision.BFloat16, Weights = StoredType.BFloat16, MicroBatch = 4 },
            },
            "within backward" => Within(config, new() { Name = OptimizerName.AdamW }),
            "within backward, bfloat16" => Within(config with { Train = train with { Precision = Precision.BFloat16, MicroBatch = 4 } }, new() { Name = OptimizerName.AdamW }),
            "within backward, muon" => Within(config, new() { Name = OptimizerName.Muon }),
            "large head, bfloat16" => config with { Model = model with { Vocabulary = 16384, Layers = 2 }, Train = train with { Precision = Precision.BFloat16, MicroBatch = 4 } },
            "dense layers, bfloat16" => config with
            {
                Model = model with { DenseLayers = model.Layers, DenseWidth = 1024 },
                Train = train with { Precision = Precision.BFloat16, MicroBatch = 4 },
            },
            "drawn" or "drawn again" => config with
            {
                Model = model with
                {
                    Layers = random.Next(2, 8),
                    DenseLayers = random.Next(0, 3),
                    Width = 32 * random.Next(3, 9),
                    Vocabulary = random.Next(256, 4096),
                    Moe = model.Moe with { ExpertWidth = 8 * random.Next(1, 33) },
                },
                Train = train with { MicroBatch = random.Next(1, 5) },
            },
            _ => throw new ArgumentException($"there is no case '{name}'", nameof(name)),
        };
    }

    // Wide enough for the experts' gradients to be most of what is left out.
    private static RunConfig Within(RunConfig config, OptimizerConfig optimizer) => config with
    {
        Optimizer = optimizer with { ExpertsInBackward = true },
        Model = config.Model with { Moe = config.Model.Moe with { ExpertWidth = 128 } },
    };
}
