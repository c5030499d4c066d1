using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training.Benchmarks;

/// <summary>The sizes and types that a configuration gives the kernels of one rank.</summary>
/// <param name="config">Checked, also against the mesh.</param>
/// <param name="mesh">All ranks.</param>
/// <param name="device">Where the rank computes.</param>
internal sealed class KernelShapes(RunConfig config, DeviceMesh mesh, Device device)
{
    /// <summary>The configuration.</summary>
    public RunConfig Config => config;

    /// <summary>All ranks.</summary>
    public DeviceMesh Mesh => mesh;

    /// <summary>Where the rank computes.</summary>
    public Device Device => device;

    /// <summary>The model's shape.</summary>
    public TransformerOptions Model { get; } = ModelAssembly.Options(config.Model);

    /// <summary>T: tokens of a micro-batch.</summary>
    public long Tokens => (long)config.Train.MicroBatch * config.Model.SequenceLength;

    /// <summary>D.</summary>
    public long Width => config.Model.Width;

    /// <summary>Type of activations and products.</summary>
    public DType Type { get; } = ModelAssembly.ComputeType(config.Train.Precision);

    /// <summary>Type of what is worked without rounding: routers, norms, losses.</summary>
    public DType Wide => Type == DType.Float64 ? DType.Float64 : DType.Float32;

    /// <summary>Type that matrices are stored in.</summary>
    public DType Stored { get; } = ModelAssembly.WeightType(config.Train);

    /// <summary>Bytes of an activation.</summary>
    public double Size => Type.Size();

    /// <summary>Bytes of a number of type <see cref="Wide"/>.</summary>
    public double WideSize => Wide.Size();

    /// <summary>Micro-batches of a step.</summary>
    public double MicroBatches => config.Train.Accumulation;

    /// <summary>How often a step passes a layer.</summary>
    public double LayerCalls => MicroBatches * config.Model.Layers;

    /// <summary>How often a step passes a layer of experts.</summary>
    public double ExpertLayerCalls => MicroBatches * config.Model.MoeLayers;
}
