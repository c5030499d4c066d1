using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Training.Benchmarks;

/// <summary>The kernels of <see cref="PairOrder"/>, each of which is the backward of another.</summary>
/// <remarks>Shapes: T tokens, k slots, N rows, D width. A row of a token is counted as read once, however many rows are made of it.</remarks>
/// <param name="shapes">Of the rank.</param>
/// <param name="random">Makes rows and weights.</param>
internal sealed class RowCopies(KernelShapes shapes, RandomInputs random)
{
    private const double Index = sizeof(int);

    private double RowBytes => shapes.Size * shapes.Width;

    /// <summary>Sorts choices by id.</summary>
    /// <param name="name">Of the kernel.</param>
    /// <param name="ids">[T, k] int64.</param>
    /// <param name="count">E, or ranks.</param>
    public static KernelBenchmark Order(string name, Tensor ids, int count)
    {
        var bytes = (ids.Count * (sizeof(long) + (2 * Index))) + (count * (sizeof(long) + Index)); // pairs and places; counts and offsets
        return new KernelBenchmark(name, FormattableString.Invariant($"[{ids.Size(0)}, {ids.Size(1)}] of {count}"), KernelPass.Forward, bytes, 0, () =>
        {
            var own = ids.Clone();
            return new KernelCall(() => PairOrder.Of(own, count));
        });
    }

    /// <summary>Tokens [T, D] -> rows [N, D].</summary>
    /// <param name="name">Of the kernel.</param>
    /// <param name="pass">Forward for rows, backward for gradients of sums.</param>
    /// <param name="order">Of the pairs.</param>
    /// <param name="rows">N.</param>
    /// <param name="tokens">T.</param>
    /// <param name="stride">Elements from one token to the next; null for D.</param>
    public KernelBenchmark Permute(string name, KernelPass pass, PairOrder order, long rows, long tokens, long? stride = null)
    {
        var bytes = ((tokens + rows) * RowBytes) + (rows * Index);
        return new KernelBenchmark(name, FormattableString.Invariant($"[{tokens}, {shapes.Width}] -> [{rows}, {shapes.Width}]"), pass, bytes, 0, () =>
        {
            var source = random.Normal([tokens, stride ?? shapes.Width], shapes.Type).Narrow(1, 0, shapes.Width);
            var own = Copy(order);
            return new KernelCall(() => own.Permute(source));
        });
    }

    /// <summary>Rows [N, D] -> sums [T, D].</summary>
    /// <param name="name">Of the kernel.</param>
    /// <param name="pass">Forward for results, backward for gradients of rows.</param>
    /// <param name="order">Of the pairs.</param>
    /// <param name="rows">N.</param>
    /// <param name="stride">Elements from one row to the next; null for D.</param>
    /// <param name="adds">Whether something is added to each sum.</param>
    public KernelBenchmark Sum(string name, KernelPass pass, PairOrder order, long rows, long? stride = null, bool adds = false)
    {
        var tokens = order.Places.Count / order.Slots;
        var bytes = ((rows + tokens + (adds ? tokens : 0)) * RowBytes) + (order.Places.Count * Index);
        return new KernelBenchmark(name, FormattableString.Invariant($"[{rows}, {shapes.Width}] -> [{tokens}, {shapes.Width}]"), pass, bytes, 0, () =>
        {
            var source = random.Normal([order.Rows, stride ?? shapes.Width], shapes.Type).Narrow(1, 0, shapes.Width);
            var added = adds ? random.Normal([tokens, shapes.Width], shapes.Type) : null;
            var own = Copy(order);
            return new KernelCall(() => own.Sum(source, added));
        });
    }

    /// <summary>Weights of the pairs [T, k] -> those of the rows [N].</summary>
    /// <param name="name">Of the kernel.</param>
    /// <param name="weights">[T, k], wide.</param>
    /// <param name="order">Of the pairs.</param>
    /// <param name="rows">N.</param>
    public KernelBenchmark PermuteNumbers(string name, Tensor weights, PairOrder order, long rows)
    {
        var bytes = rows * ((2 * shapes.WideSize) + Index);
        return new KernelBenchmark(name, FormattableString.Invariant($"[{weights.Size(0)}, {weights.Size(1)}] -> [{rows}]"), KernelPass.Forward, bytes, 0, () =>
        {
            var (own, numbers) = (Copy(order), weights.Clone());
            return new KernelCall(() => own.PermuteNumbers(numbers));
        });
    }

    /// <summary>Gradients of the rows' weights [N] -> those of the pairs' [T, k].</summary>
    /// <param name="name">Of the kernel.</param>
    /// <param name="order">Of the pairs.</param>
    /// <param name="rows">N.</param>
    public KernelBenchmark NumbersOfPairs(string name, PairOrder order, long rows)
    {
        var pairs = order.Places.Count;
        var bytes = (rows * shapes.WideSize) + (pairs * (shapes.WideSize + Index));
        return new KernelBenchmark(name, FormattableString.Invariant($"[{rows}] -> [{pairs / order.Slots}, {order.Slots}]"), KernelPass.Backward, bytes, 0, () =>
        {
            var (own, numbers) = (Copy(order), random.Normal([order.Rows], shapes.Wide));
            return new KernelCall(() => own.NumbersOfPairs(numbers));
        });
    }

    /// <summary>The same order in other memory.</summary>
    public static PairOrder Copy(PairOrder order) => order.Saved(tensor => tensor.Clone());
}
