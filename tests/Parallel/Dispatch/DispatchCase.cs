namespace Moe.Tests.Distributed;

/// <summary>How the tokens of a <see cref="DispatchCase"/> choose their experts.</summary>
public enum Choices
{
    Random,
    SomeDropped,
    AllDropped,
    AllToOneExpert,
    OneExpertIdle,
}

/// <summary>What a rank brings to a case and, by the definition token by token, what it must get.</summary>
/// <param name="Tokens">[T, D].</param>
/// <param name="Ids">[T, k].</param>
/// <param name="Weights">[T, k].</param>
/// <param name="OutputGradient">[T, D].</param>
public sealed record DispatchShare(double[][] Tokens, long[][] Ids, double[][] Weights, double[][] OutputGradient)
{
    public int Count => Tokens.Length;
}

/// <summary>
/// A dispatch over all ranks, drawn from a seed alone so that every rank draws the same, with the loss sum(out * G) and one matrix as
/// each expert: out[t] = sum over s of w[t, s] * x[t] M[id[t, s]].
/// </summary>
public sealed class DispatchCase
{
    public DispatchCase(int seed, int[] tokensOfRank, int slots, int experts, int width, Choices choices = Choices.Random)
    {
        var random = new Random(seed);
        (Slots, Experts, Width) = (slots, experts, width);
        Matrices = [.. Enumerable.Range(0, experts).Select(_ => Matrix(random, width, width))];
        Shares = [.. tokensOfRank.Select(tokens => new DispatchShare(
            Matrix(random, tokens, width),
            [.. Enumerable.Range(0, tokens).Select(_ => Choose(random, choices))],
            Matrix(random, tokens, slots),
            Matrix(random, tokens, width)))];
        foreach (var share in Shares)
        {
            PoisonDropped(share);
        }
    }

    private DispatchCase(DispatchCase source, DispatchShare[] shares, double[][][]? matrices = null)
    {
        (Slots, Experts, Width, Matrices, Shares) = (source.Slots, source.Experts, source.Width, matrices ?? source.Matrices, shares);
    }

    public int Slots { get; }

    public int Experts { get; }

    public int Width { get; }

    /// <summary>[E][D][D].</summary>
    public double[][][] Matrices { get; }

    /// <summary>By rank.</summary>
    public DispatchShare[] Shares { get; }

    /// <summary>The same tokens, all on one rank, in the order of the ranks.</summary>
    public DispatchCase OnOneRank() => new(this, [new DispatchShare(
        [.. Shares.SelectMany(share => share.Tokens)],
        [.. Shares.SelectMany(share => share.Ids)],
        [.. Shares.SelectMany(share => share.Weights)],
        [.. Shares.SelectMany(share => share.OutputGradient)])]);

    /// <summary>The same case with numbers that bfloat16 holds, so that a run in that type differs by its own rounding alone. Weights, which travel in float32, stay.</summary>
    public DispatchCase InBFloat16() => new(
        this, [.. Shares.Select(share => share with { Tokens = Cut(share.Tokens), OutputGradient = Cut(share.OutputGradient) })], [.. Matrices.Select(Cut)]);

    /// <summary>[T, D].</summary>
    public double[] Output(int rank) => [.. PerToken(rank, (share, t) => SumOverSlots(share, t, e => Product(share.Tokens[t], Matrices[e])))];

    /// <summary>[T, D].</summary>
    public double[] TokenGradient(int rank) =>
        [.. PerToken(rank, (share, t) => SumOverSlots(share, t, e => Product(share.OutputGradient[t], Transposed(Matrices[e]))))];

    /// <summary>[T, k].</summary>
    public double[] WeightGradient(int rank) => [.. PerToken(rank, (share, t) => [.. share.Ids[t].Select(e =>
        e == Experts ? 0 : Product(share.Tokens[t], Matrices[e]).Zip(share.OutputGradient[t], (y, g) => y * g).Sum())])];

    /// <summary>[D, D] of one expert, over the tokens of all ranks.</summary>
    public double[] MatrixGradient(int expert)
    {
        var gradient = new double[Width * Width];
        foreach (var (share, t, s) in PairsOf(expert))
        {
            for (var i = 0; i < gradient.Length; i++)
            {
                gradient[i] += share.Weights[t][s] * share.Tokens[t][i / Width] * share.OutputGradient[t][i % Width];
            }
        }

        return gradient;
    }

    /// <summary>[R, D]: what the experts of a rank see.</summary>
    public double[] Rows(int firstExpert, int count) =>
        [.. Enumerable.Range(firstExpert, count).SelectMany(PairsOf).SelectMany(pair => pair.Share.Tokens[pair.Token])];

    public long[] RowsPerExpert(int firstExpert, int count) => [.. Enumerable.Range(firstExpert, count).Select(e => PairsOf(e).LongCount())];

    private static double[][] Matrix(Random random, int rows, int columns) =>
        [.. Enumerable.Range(0, rows).Select(_ => Enumerable.Range(0, columns).Select(_ => (2 * random.NextDouble()) - 1).ToArray())];

    // A bfloat16 is the upper half of a float32.
    private static double[][] Cut(double[][] rows) => Array.ConvertAll(
        rows, row => Array.ConvertAll(row, value => (double)BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits((float)value) & 0xFFFF_0000)));

    private static double[][] Transposed(double[][] matrix) => [.. matrix[0].Select((_, column) => matrix.Select(row => row[column]).ToArray())];

    private static double[] Product(double[] row, double[][] matrix)
    {
        var result = new double[matrix[0].Length];
        for (var i = 0; i < row.Length; i++)
        {
            for (var j = 0; j < result.Length; j++)
            {
                result[j] += row[i] * matrix[i][j];
            }
        }

        return result;
    }

    private long[] Choose(Random random, Choices choices)
    {
        long[] ids = [.. Enumerable.Range(0, Experts).OrderBy(_ => random.Next()).Select(id => (long)id)];
        switch (choices)
        {
            case Choices.AllDropped:
                Array.Fill(ids, Experts);
                break;
            case Choices.AllToOneExpert:
                Array.Fill(ids, Experts - 1);
                break;
            case Choices.OneExpertIdle:
                ids = [.. ids.Where(id => id != 0)];
                break;
            case Choices.SomeDropped:
                ids = [.. ids.Select(id => random.Next(3) == 0 ? Experts : id)];
                break;
        }

        return ids[..Slots];
    }

    private void PoisonDropped(DispatchShare share)
    {
        foreach (var (ids, weights) in share.Ids.Zip(share.Weights))
        {
            for (var s = 0; s < ids.Length; s++)
            {
                weights[s] = ids[s] == Experts ? double.NaN : weights[s];
            }
        }
    }

    private IEnumerable<double> PerToken(int rank, Func<DispatchShare, int, double[]> values) =>
        Enumerable.Range(0, Shares[rank].Count).SelectMany(t => values(Shares[rank], t));

    private double[] SumOverSlots(DispatchShare share, int token, Func<long, double[]> expert)
    {
        var sum = new double[Width];
        for (var s = 0; s < Slots; s++)
        {
            if (share.Ids[token][s] < Experts)
            {
                var weight = share.Weights[token][s];
                sum = [.. sum.Zip(expert(share.Ids[token][s]), (total, y) => total + (weight * y))];
            }
        }

        return sum;
    }

    private IEnumerable<(DispatchShare Share, int Token, int Slot)> PairsOf(int expert) =>
        from share in Shares
        from token in Enumerable.Range(0, share.Count)
        from slot in Enumerable.Range(0, Slots)
        where share.Ids[token][slot] == expert
        select (share, token, slot);
}
