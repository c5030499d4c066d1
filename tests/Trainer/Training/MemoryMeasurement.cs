using Moe.Distributed;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Configuration;
using Moe.Training.Planning;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Bytes that a model really keeps, as libtorch's allocator counts them, against its plan.</summary>
internal static class MemoryMeasurement
{
    // Of planned bytes: what the plan leaves out are orders, statistics and scalars.
    private const double Tolerance = 0.1;

    /// <summary>A model whose activations are large beside all else. Every token goes to every expert, so that the rows are known beforehand.</summary>
    public static RunConfig Config(string folder, Recompute recompute, int? layers = null)
    {
        var config = TinyRun.Config(folder);
        return config with
        {
            Model = config.Model with
            {
                Layers = 4,
                DenseLayers = 1,
                Width = 32,
                SequenceLength = 64,
                Vocabulary = 256,
                Moe = config.Model.Moe with { TopK = 8, ExpertWidth = 32, SharedExperts = 1 },
            },
            Train = config.Train with { MicroBatch = 4, Recompute = recompute, RecomputeLayers = recompute is Recompute.Auto or Recompute.None ? null : layers },
        };
    }

    /// <summary>Of this rank.</summary>
    public static MemoryPlan Plan(RunConfig config, DeviceMesh mesh)
    {
        using var planned = new PlannedModel(config with { Parallel = config.Parallel with { ExpertParallel = mesh.Expert.Size } }, mesh.World.Size, mesh.RanksPerNode);
        return MemoryPlan.Of(planned, rank: mesh.World.Rank);
    }

    /// <summary>Compares what stands at the end of a forward, and the most that there is until the end of the backward.</summary>
    /// <returns>Bytes at the end of the forward.</returns>
    public static long MustBeAsPlanned(RunConfig config, DeviceMesh mesh)
    {
        var device = config.Parallel.Device == DeviceName.Cuda ? Device.Cuda(0) : Device.Cpu;
        using var model = ModelAssembly.Build(config, mesh, device);
        var plan = Plan(config, mesh);
        using var scope = new TensorScope();
        var drawn = Tensor.Zeros([config.Train.MicroBatch, config.Model.SequenceLength], DType.Int64);
        for (var i = 0; i < drawn.Count; i++)
        {
            drawn.Span<long>()[i] = (i * 7) % config.Model.Vocabulary;
        }

        var tokens = drawn.To(device);
        Autograd.Backward(model.Forward(tokens, tokens, 1).LossSum); // gradients stand from here on
        using var count = new HostMemoryCount();
        var before = device.IsCuda ? Reset(device) : 0;
        (long Now, long Peak) Taken() => device.IsCuda && CudaRuntime.Memory(device) is var memory ? (memory.Allocated - before, memory.Peak - before) : HostMemoryCount.Read();
        var loss = model.Forward(tokens, tokens, 1).LossSum;
        var (kept, _) = Taken();
        Autograd.Backward(loss);
        var (left, peak) = Taken();
        var expected = plan.Activations.Sum(item => item.Bytes);
        var what = $"{MemoryChoice.Of(config)}: kept {kept}, planned {expected} ({string.Join(", ", plan.Activations)}); at most {peak}, planned {expected + plan.Workspace}";
        Console.WriteLine(what);
        Assert.That((double)kept, Is.EqualTo((double)expected).Within(100 * Tolerance).Percent, what);
        Assert.That((double)peak, Is.AtMost((1 + Tolerance) * (expected + (double)plan.Workspace)), what);
        Assert.That(left, Is.LessThan(kept / 100), "nothing stays behind");
        return kept;
    }

    private static long Reset(Device device)
    {
        CudaRuntime.ResetPeak(device);
        return CudaRuntime.Memory(device).Allocated;
    }
}
