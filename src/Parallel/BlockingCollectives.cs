using Moe.Torch;

namespace Moe.Distributed;

/// <summary>The operations of a <see cref="ProcessGroup"/> in forms that return when the results are there and the host may read them.</summary>
public static class BlockingCollectives
{
    /// <inheritdoc cref="ProcessGroup.AllReduceAsync"/>
    /// <exception cref="CommunicationException">The operation failed or timed out.</exception>
    public static void AllReduce(this ProcessGroup group, Tensor values, ReduceOperation operation = ReduceOperation.Sum) =>
        group.AllReduceAsync(values, operation).WaitOnHost();

    /// <summary>Joins one number of each rank.</summary>
    /// <param name="group">Who takes part.</param>
    /// <param name="value">This rank's.</param>
    /// <param name="operation">How to join them.</param>
    /// <returns>The same bits on every rank.</returns>
    /// <exception cref="CommunicationException">The operation failed or timed out.</exception>
    public static double AllReduce(this ProcessGroup group, double value, ReduceOperation operation = ReduceOperation.Sum)
    {
        using var scope = new TensorScope();
        var joined = Tensor.From([value], 1);
        group.AllReduce(joined, operation);
        return joined.Item();
    }

    /// <inheritdoc cref="ProcessGroup.AllToAllAsync"/>
    /// <exception cref="CommunicationException">The operation failed or timed out.</exception>
    public static void AllToAll(this ProcessGroup group, Tensor output, Tensor input, long[] outputRows, long[] inputRows) =>
        group.AllToAllAsync(output, input, outputRows, inputRows).WaitOnHost();

    /// <inheritdoc cref="ProcessGroup.AllGatherAsync(Tensor, Tensor)"/>
    /// <exception cref="CommunicationException">The operation failed or timed out.</exception>
    public static void AllGather(this ProcessGroup group, Tensor output, Tensor input) => group.AllGatherAsync(output, input).WaitOnHost();

    /// <inheritdoc cref="ProcessGroup.ReduceScatterAsync(Tensor, Tensor, ReduceOperation)"/>
    /// <exception cref="CommunicationException">The operation failed or timed out.</exception>
    public static void ReduceScatter(this ProcessGroup group, Tensor output, Tensor input, ReduceOperation operation = ReduceOperation.Sum) =>
        group.ReduceScatterAsync(output, input, operation).WaitOnHost();

    /// <inheritdoc cref="ProcessGroup.BroadcastAsync"/>
    /// <exception cref="CommunicationException">The operation failed or timed out.</exception>
    public static void Broadcast(this ProcessGroup group, Tensor values, int root) => group.BroadcastAsync(values, root).WaitOnHost();

    /// <summary>Returns when every rank has called it.</summary>
    /// <exception cref="CommunicationException">The operation failed or timed out.</exception>
    public static void Barrier(this ProcessGroup group) => group.BarrierAsync().WaitOnHost();
}
