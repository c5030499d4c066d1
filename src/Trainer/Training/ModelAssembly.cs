using Moe.Distributed;
using Moe.Models;
using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Configuration;
using Moe.Training.Planning;

namespace Moe.Training;

/// <summary>From configuration records to the objects of the rooms below, which know nothing of configurations.</summary>
public static class ModelAssembly
{
    /// <summary>This rank's share of the model, with its initial weights. Every rank calls this at the same time.</summary>
    /// <param name="config">Checked against the mesh.</param>
    /// <param name="mesh">All ranks.</param>
    /// <param name="device">Where this rank computes.</param>
    /// <param name="note">Told of a choice that was measured.</param>
    public static Transformer Build(RunConfig config, DeviceMesh mesh, Device device = default, Action<string>? note = null) => new(
        Options(config.Model), DispatcherAssembly.Build(config, mesh, device, note), config.Run.Seed, WeightType(config.Train), ComputeType(config.Train.Precision), device)
    {
        Activations = MemoryChoice.Of(config).ToPlan(device),
        LayerStarting = layer => mesh.World.Trace.Layer = layer,
    };

    /// <summary>The shapes of this rank's share of the model, without memory or values.</summary>
    internal static Transformer Outline(RunConfig config, DeviceMesh mesh) =>
        Transformer.Outline(Options(config.Model), DispatcherAssembly.Outline(config, mesh), WeightType(config.Train), ComputeType(config.Train.Precision));

    /// <summary>The learning rate's course over the run.</summary>
    /// <exception cref="TrainingException">The file of a refined schedule cannot be used.</exception>
    public static Schedule Schedule(RunConfig config)
    {
        var schedule = config.Schedule;
        var decay = schedule.Name switch
        {
            ScheduleName.Linear => Decay.Linear,
            ScheduleName.Cosine => Decay.Cosine,
            ScheduleName.Wsd => Same<DecayShape, Decay>(schedule.DecayShape),
            _ => Decay.Constant,
        };
        return new Schedule(config.Optimizer.LearningRate, decay, config.Train.Steps, schedule.WarmupSteps, schedule.FinalFraction)
        {
            DecaySteps = schedule.Name == ScheduleName.Wsd ? DecaySteps(config) : null,
            Refined = schedule.Name == ScheduleName.Refined ? ScheduleFile.Read(schedule.File!).Curve() : null,
        };
    }

    /// <summary>Steps in which the learning rate of <c>wsd</c> falls, at least 1.</summary>
    public static int DecaySteps(RunConfig config) => Math.Max(1, (int)Math.Round(config.Schedule.DecayFraction * config.Train.Steps));

    /// <summary>The model's shape.</summary>
    public static TransformerOptions Options(ModelConfig model) => new()
    {
        Layers = model.Layers,
        Width = model.Width,
        Heads = model.Heads,
        KeyValueHeads = model.KeyValueHeadCount,
        HeadWidth = model.HeadSize,
        SequenceLength = model.SequenceLength,
        Vocabulary = model.Vocabulary,
        Norm = Same<Configuration.NormPlacement, Models.NormPlacement>(model.Norm),
        NormEpsilon = model.NormEpsilon,
        QueryKeyNorm = model.QueryKeyNorm,
        RotaryBase = model.RotaryBase,
        DenseLayers = model.DenseLayers,
        DenseWidth = model.DenseHiddenSize,
        TieEmbeddings = model.TieEmbeddings,
        InitStd = model.InitStd,
        Moe = new MoeOptions
        {
            Experts = model.Moe.Experts,
            TopK = model.Moe.TopK,
            ExpertWidth = model.Moe.ExpertWidth,
            SharedExperts = model.Moe.SharedExperts,
            Score = Same<Configuration.RouterScore, Models.RouterScore>(model.Moe.Score),
            NormalizeWeights = model.Moe.NormalizeWeights,
            RoutedScale = model.Moe.RoutedScale,
            CapacityFactor = model.Moe.CapacityFactor,
            DropPolicy = Same<Configuration.DropPolicy, Models.DropPolicy>(model.Moe.DropPolicy),
        },
    };

    /// <summary>Type that matrices are stored in.</summary>
    internal static DType WeightType(TrainConfig train) => train switch
    {
        { Precision: Precision.Float64 } => DType.Float64,
        { Weights: StoredType.BFloat16 } => DType.BFloat16,
        _ => DType.Float32,
    };

    /// <summary>Type of activations and products.</summary>
    internal static DType ComputeType(Precision precision) => precision switch
    {
        Precision.Float64 => DType.Float64,
        Precision.BFloat16 => DType.BFloat16,
        _ => DType.Float32,
    };

    // The same names in two rooms, since the model's room must not know the configuration's.
    private static TTo Same<TFrom, TTo>(TFrom value)
        where TFrom : struct, Enum
        where TTo : struct, Enum => Enum.Parse<TTo>(value.ToString());
}
