using Moe.Distributed;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training.Benchmarks;

/// <summary>Times the kernels of a configuration, family by family, against what the machine can do.</summary>
public static class KernelBench
{
    private const string Dispatch = "dispatch", Experts = "experts", Attention = "attention", Head = "head", Update = "optimizer";

    /// <summary>The families.</summary>
    public static IReadOnlyList<string> Names { get; } = [Dispatch, Experts, Attention, Head, Update];

    /// <summary>Times a family. Every rank calls this at the same time, and gets its own numbers.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="config">Checked, also against the mesh.</param>
    /// <param name="mesh">All ranks.</param>
    /// <param name="device">Where this rank computes.</param>
    /// <param name="warmup">Rounds before the measurements.</param>
    /// <param name="repeats">Measurements of each kernel, at least 1.</param>
    /// <param name="ceilingSeconds">How long each ceiling is measured, before and after the kernels.</param>
    /// <exception cref="ConfigException">The configuration has none of these kernels.</exception>
    internal static KernelReport Run(string name, RunConfig config, DeviceMesh mesh, Device device, int warmup, int repeats, double ceilingSeconds = 0.25)
    {
        Check(name, config);
        using var scope = new TensorScope();
        var shapes = new KernelShapes(config, mesh, device);
        using var random = new RandomInputs(config.Run.Seed + (ulong)mesh.World.Rank, device);
        using var attention = name == Attention ? new AttentionKernels(shapes, random) : null;
        using var optimizer = name == Update ? new OptimizerKernels(shapes) : null;
        IEnumerable<KernelBenchmark> kernels = name switch
        {
            Dispatch => DispatchKernels.Of(shapes, random),
            Experts => ExpertKernels.Of(shapes, random),
            Attention => attention!.All(),
            Head => new HeadKernels(shapes, random).All(),
            _ => optimizer!.All(),
        };
        using var timer = new KernelTimer(mesh.World, device, warmup, repeats);
        return Time(name, [.. kernels], shapes, timer, ceilingSeconds);
    }

    /// <summary>Refuses a family of which a configuration has no kernel.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="config">Checked.</param>
    /// <exception cref="ConfigException">It is dispatch, and there is nothing to dispatch to, or tokens go another way than the one whose kernels are timed.</exception>
    public static void Check(string name, RunConfig config)
    {
        if (name != Dispatch)
        {
            return;
        }

        if (config.Model.MoeLayers == 0)
        {
            throw new ConfigException(
                "model.dense_layers", $"all {config.Model.Layers} layers are dense (model.dense_layers): nothing is dispatched; bench experts times dense layers too");
        }

        if (config.Parallel.Dispatcher is DispatcherName.AllGather or DispatcherName.TwoLevel)
        {
            throw new ConfigException(
                "parallel.dispatcher",
                $"bench dispatch times the kernels of all_to_all, and has none of {ConfigChoices.Spelling(config.Parallel.Dispatcher)} (parallel.dispatcher); take --set parallel.dispatcher=all_to_all, or time whole steps by bench step");
        }
    }

    private static KernelReport Time(string name, IReadOnlyList<KernelBenchmark> kernels, KernelShapes shapes, KernelTimer timer, double ceilingSeconds)
    {
        DType[] types = [shapes.Type, .. kernels.Where(kernel => kernel.Operations > 0).Select(kernel => kernel.ProductType ?? shapes.Type)];
        var before = KernelCeilings.Measure(shapes.Mesh.World, shapes.Device, types, ceilingSeconds);
        var times = kernels.Select(kernel => (Plain: timer.TimePlain(kernel), Own: timer.Time(kernel))).ToList();
        var ceilings = before.OrHigher(KernelCeilings.Measure(shapes.Mesh.World, shapes.Device, types, ceilingSeconds));
        var rows = kernels.Zip(times, (kernel, time) => Row(kernel, time.Own, ceilings.Of(kernel, shapes.Type, time.Plain))).ToList();
        return new KernelReport(name, shapes.Mesh.World.Size, ceilings.BytesPerSecond / 1e9, ceilings.ProductsPerSecond[shapes.Type] / 1e12, rows);
    }

    private static KernelRow Row(KernelBenchmark kernel, Spread time, Ceiling ceiling) => new(
        kernel.Name,
        kernel.Shape,
        Word(kernel.Pass),
        time.Median,
        time.Low,
        time.High,
        kernel.Bytes,
        kernel.Operations,
        Word(ceiling.Kind),
        ceiling.Milliseconds,
        kernel.CallsPerStep);

    private static string Word<T>(T value)
        where T : struct, Enum => ConfigChoices.Spelling(value);
}
