namespace Moe.Torch.Kernels;

/// <summary>What experts' rows are gathered from: keeping it instead of the rows keeps a token once, however many experts of this rank it chose.</summary>
/// <param name="Tokens">[n, D or more], without gaps: what stands beyond D belongs to no row.</param>
/// <param name="Width">D.</param>
/// <param name="Order">From tokens to rows.</param>
/// <param name="IsAlone">Whether nothing else keeps the tokens' memory for backward.</param>
public sealed record RowSource(Tensor Tokens, long Width, PairOrder Order, bool IsAlone)
{
    /// <summary>[R, D]: the rows, to the last bit.</summary>
    public Tensor Gather() => Order.Permute(Tokens.Narrow(1, 0, Width));

    /// <summary>The same on handles that live as long as a graph needs them.</summary>
    /// <param name="save">Of the function that gathers in its backward; it is told whether nothing else keeps the memory.</param>
    public RowSource Saved(Func<Tensor, bool, Tensor> save) =>
        this with { Tokens = save(Tokens, IsAlone), Order = Order.Saved(tensor => save(tensor, false)) };
}
