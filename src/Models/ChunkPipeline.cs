using Moe.Distributed;
using Moe.Torch;

namespace Moe.Models;

/// <summary>Rows of several chunks on their way back, finished in order: each while the ones after it are worked on.</summary>
/// <param name="chunks">How many there are.</param>
/// <param name="finish">Told a chunk's number and what came back of it.</param>
internal sealed class ChunkPipeline(int chunks, Action<int, Tensor> finish)
{
    // Chunks under way at once: one in its first exchange, one in its second.
    private const int Depth = 2;

    private readonly RowsUnderWay?[] _returning = new RowsUnderWay?[chunks];
    private int _started;
    private int _finished;

    /// <summary>Takes the next chunk's rows, which have just started.</summary>
    internal void Returning(RowsUnderWay rows)
    {
        if (_started > 0)
        {
            _returning[_started - 1]!.Continue();
        }

        _returning[_started++] = rows;
        if (_started - _finished > Depth)
        {
            FinishNext();
        }
    }

    /// <summary>Finishes all that started.</summary>
    internal void Finish()
    {
        while (_finished < _started)
        {
            FinishNext();
        }
    }

    private void FinishNext()
    {
        using var returned = _returning[_finished]!.Await();
        finish(_finished, returned);
        _returning[_finished++] = null;
    }
}
