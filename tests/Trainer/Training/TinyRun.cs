using System.Text;
using Moe.Distributed;
using Moe.Training;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;

namespace Moe.Tests.Training;

/// <summary>A model that trains in milliseconds, on a text of random words, with the same global batch on every mesh.</summary>
internal static class TinyRun
{
    /// <summary>Sequences of a micro-step over all ranks, however many these are.</summary>
    public const int Sequences = 8;

    /// <summary>Sequences that are balanced and capped together: what each of four ranks reads, whoever reads it.</summary>
    public const int SegmentSequences = 2;

    /// <summary>Tokens of a micro-step over all ranks.</summary>
    public const int Tokens = Sequences * SequenceLength;

    private const int SequenceLength = 16;

    /// <summary>The configuration that tests change; its text and tokens stand in <paramref name="folder"/>.</summary>
    public static RunConfig Config(string folder, ulong seed = 1) => new()
    {
        Run = new() { Seed = seed },
        Model = new()
        {
            Layers = 2,
            Width = 16,
            Heads = 2,
            SequenceLength = SequenceLength,
            Vocabulary = 256,
            InitStd = 0.2,
            Moe = new() { Experts = 8, TopK = 2, ExpertWidth = 12 },
        },
        Balance = new() { Coefficient = 0.5 },
        Optimizer = new() { Name = OptimizerName.Sgd, LearningRate = 0.5, Momentum = 0.9, WeightDecay = 0.01 },
        Schedule = new() { Name = ScheduleName.Constant, WarmupSteps = 0 },
        Data = new() { Domains = [new() { Name = "words", Path = Path.Combine(folder, "words.txt") }], EvalFraction = 0.1 },
        Train = new() { Steps = 100, ClipNorm = 0, MicroBatch = Sequences, EvalSequences = 16 },
        Parallel = new() { Threads = 1 },
    };

    /// <summary>Writes the text of a folder and prepares its tokens. Once, before any rank opens them.</summary>
    public static void WriteText(string folder, int seed)
    {
        var random = new Random(seed);
        var words = Enumerable.Range(0, 200).Select(_ => new string([.. Enumerable.Range(0, random.Next(2, 9)).Select(_ => (char)random.Next('a', 'z' + 1))])).ToArray();
        var text = new StringBuilder();
        while (text.Length < 40_000)
        {
            text.Append(words[random.Next(random.Next(1, words.Length))]).Append(random.Next(9) == 0 ? ".\n" : " ");
        }

        var config = Config(folder);
        File.WriteAllText(config.Data.Domains[0].Path, text.ToString());
        DomainTokens.Prepare(config.Data);
    }

    /// <summary>The ranks share the micro-step's sequences.</summary>
    public static TrainingSession Session(RunConfig config, DeviceMesh mesh, string checkpoints = "nowhere") => new(
        config with { Train = config.Train with { MicroBatch = config.Train.MicroBatch / mesh.World.Size } },
        mesh,
        new CheckpointFolder(checkpoints),
        SegmentSequences);

    /// <summary>One process with all experts.</summary>
    public static DeviceMesh Alone() => new(new SingleProcessGroup(TimeSpan.FromSeconds(10)), 1);
}
