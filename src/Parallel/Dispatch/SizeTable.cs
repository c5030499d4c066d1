namespace Moe.Distributed;

/// <summary>The sizes of a dispatch as the host reads them.</summary>
/// <param name="values">[tables, peers, chunks, 2]: rows and choices.</param>
/// <param name="peers">Ranks of the group, or nodes.</param>
/// <param name="chunks">Parts of the tokens.</param>
internal readonly struct SizeTable(ReadOnlyMemory<long> values, int peers, int chunks)
{
    /// <summary>[peers]: rows of a chunk to or from each peer.</summary>
    public long[] Rows(int table, int chunk)
    {
        var rows = new long[peers];
        for (var peer = 0; peer < peers; peer++)
        {
            rows[peer] = At(table, peer, chunk, 0);
        }

        return rows;
    }

    /// <summary>Choices of a chunk, over all peers.</summary>
    public long Choices(int table, int chunk)
    {
        var sum = 0L;
        for (var peer = 0; peer < peers; peer++)
        {
            sum += At(table, peer, chunk, 1);
        }

        return sum;
    }

    private long At(int table, int peer, int chunk, int what) => values.Span[(((((table * peers) + peer) * chunks) + chunk) * 2) + what];
}
