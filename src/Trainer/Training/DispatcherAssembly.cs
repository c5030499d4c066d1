using System.Globalization;
using Moe.Distributed;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>From <c>parallel.dispatcher</c> to the way that tokens go.</summary>
internal static class DispatcherAssembly
{
    // Tokens of the measured exchanges at most: more would take longer, and say no more.
    private const int MeasuredTokens = 8192;

    /// <summary>The dispatcher of a training. Every rank calls this at the same time.</summary>
    /// <param name="config">Checked against the mesh.</param>
    /// <param name="mesh">All ranks.</param>
    /// <param name="device">Where this rank computes.</param>
    /// <param name="note">Told of a choice that was measured.</param>
    /// <exception cref="ConfigException">The mesh has no such way.</exception>
    public static TokenDispatcher Build(RunConfig config, DeviceMesh mesh, Device device, Action<string>? note)
    {
        var name = config.Parallel.Dispatcher;
        if (name == DispatcherName.AllGather || IsLocal(config, mesh))
        {
            return Outline(config, mesh);
        }

        var host = new HostMemory(processes: MachineLayout.Gather(mesh.World).RanksHere);
        Func<long> free = device.IsCuda ? () => CudaRuntime.Available(device) : host.Available;
        var (experts, chunks) = (config.Model.Moe.Experts, config.Parallel.DispatchChunks);
        ExchangingDispatcher Direct() => new AllToAllDispatcher(mesh.Expert, experts) { Chunks = chunks, FreeBytes = free };
        ExchangingDispatcher OverNodes() => new TwoLevelDispatcher(mesh.ExpertNodes(), experts) { Chunks = chunks, FreeBytes = free };

        if (name == DispatcherName.TwoLevel)
        {
            return mesh.HasExpertNodes ? OverNodes() : throw new ConfigException(
                "parallel.dispatcher",
                $"dispatcher two_level needs experts over several nodes of several ranks each, but {mesh.Expert.Size} ranks with {mesh.RanksPerNode} a node share them; take auto");
        }

        return name == DispatcherName.Auto && mesh.HasExpertNodes && mesh.SpansMachines ? Quicker(Direct(), OverNodes(), config, mesh, device, note) : Direct();
    }

    /// <summary>One that says which experts a rank holds, without any communication.</summary>
    public static TokenDispatcher Outline(RunConfig config, DeviceMesh mesh)
    {
        var experts = config.Model.Moe.Experts;
        return config.Parallel.Dispatcher switch
        {
            DispatcherName.AllGather => new AllGatherDispatcher(mesh.Expert, experts),
            _ when IsLocal(config, mesh) => new LocalDispatcher(experts),
            DispatcherName.Local => throw new ConfigException(
                "parallel.dispatcher", $"dispatcher local needs all experts on each rank, but {mesh.Expert.Size} ranks share them; take auto, or parallel.expert_parallel=1"),
            _ => new AllToAllDispatcher(mesh.Expert, experts),
        };
    }

    private static bool IsLocal(RunConfig config, DeviceMesh mesh) =>
        mesh.Expert.Size == 1 && config.Parallel.Dispatcher is DispatcherName.Auto or DispatcherName.Local;

    // All ranks of all replicas decide by the same numbers.
    private static ExchangingDispatcher Quicker(
        ExchangingDispatcher direct, ExchangingDispatcher overNodes, RunConfig config, DeviceMesh mesh, Device device, Action<string>? note)
    {
        var tokens = Math.Min(MeasuredTokens, config.Train.MicroBatch * config.Model.SequenceLength);
        var type = ModelAssembly.ComputeType(config.Train.Precision);
        double Seconds(ExchangingDispatcher dispatcher) => mesh.World.AllReduce(
            ExchangeTiming.Seconds(dispatcher, mesh.Expert, tokens, config.Model.Width, config.Model.Moe.TopK, type, device), ReduceOperation.Max);
        var times = new ExchangeTimes(Seconds(direct), Seconds(overNodes));
        note?.Invoke(string.Create(CultureInfo.InvariantCulture, $"{times} of {mesh.RanksPerNode} ranks, for {tokens} tokens a rank"));
        return times.Quicker == DispatcherName.TwoLevel ? overNodes : direct;
    }
}

/// <summary>What tokens take to go out and come back, on the slowest rank.</summary>
/// <param name="Straight">Seconds from rank to rank.</param>
/// <param name="OverNodes">Seconds over nodes.</param>
internal readonly record struct ExchangeTimes(double Straight, double OverNodes)
{
    /// <summary>Of equal ones the straight way.</summary>
    public DispatcherName Quicker => OverNodes < Straight ? DispatcherName.TwoLevel : DispatcherName.AllToAll;

    /// <summary>What was chosen, and why.</summary>
    public override string ToString() => string.Create(
        CultureInfo.InvariantCulture,
        $"parallel.dispatcher is {ConfigChoices.Spelling(Quicker)}: out and back take {1000 * Straight:0.###} ms straight and {1000 * OverNodes:0.###} ms over nodes");
}
