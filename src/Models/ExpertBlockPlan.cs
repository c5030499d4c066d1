using System.Globalization;
using Moe.Distributed;
using Moe.Torch;

namespace Moe.Models;

/// <summary>In which parts this rank's experts work on the rows that will arrive, decided when their number is known and before one has moved.</summary>
/// <param name="Keeps">Whether each chunk is one block that keeps for backward what it made: the usual way.</param>
/// <param name="BlockRows">Arrived rows of a block at most.</param>
internal sealed record ExpertBlockPlan(bool Keeps, long BlockRows)
{
    // Arrived rows of the smallest block: with fewer, products over a few rows an expert would take longer than any run has.
    private const long SmallestBlock = 64;
    private const double Mebi = 1 << 20;

    /// <summary>Decides by the bytes that forward and backward of this layer take from here on.</summary>
    /// <param name="shape">Of the experts.</param>
    /// <param name="routes">The chunks, with the sizes of what arrives.</param>
    /// <param name="free">Bytes that may still be taken; null where there is no limit.</param>
    /// <param name="name">The layer's experts.</param>
    /// <param name="keeps">Whether a backward will come: without one nothing is kept for it.</param>
    /// <exception cref="ExpertMemoryException">Not even the smallest blocks fit.</exception>
    internal static ExpertBlockPlan Of(ExpertShape shape, IReadOnlyList<TokenRoute> routes, long? free, string name, bool keeps)
    {
        var whole = new ExpertBlockPlan(true, long.MaxValue);
        if (free is not { } bytes || (keeps ? whole.Bytes(shape, routes) : Passing(shape, routes)) <= bytes)
        {
            return whole;
        }

        var most = routes.Max(route => route.ArrivingRows);
        var rows = (bytes - Fixed(shape, routes)) / shape.BytesOfBlockRow;
        return rows >= Math.Min(most, SmallestBlock) ? new ExpertBlockPlan(false, Math.Min(most, rows)) : throw Refused(shape, routes, bytes, name);
    }

    /// <summary>Parts of the gradient of each matrix.</summary>
    internal int Parts(IReadOnlyList<TokenRoute> routes) => routes.Sum(route => Blocks(route.ArrivingRows).Length);

    /// <summary>Start and length of each block of a chunk; at least one, which may be empty.</summary>
    internal (long Start, long Length)[] Blocks(long arrivingRows)
    {
        var count = arrivingRows <= BlockRows ? 1 : checked((int)((arrivingRows + BlockRows - 1) / BlockRows));
        return [.. Enumerable.Range(0, count).Select(block => (
            arrivingRows * block / count, (arrivingRows * (block + 1) / count) - (arrivingRows * block / count)))];
    }

    private long Bytes(ExpertShape shape, IReadOnlyList<TokenRoute> routes) =>
        routes.Sum(route => shape.BytesKept(route.ArrivingRows, route.ArrivingChoices)) + Passing(shape, routes) + shape.BytesOfMatrices(Parts(routes));

    // Of the largest chunk, which is gone with the next.
    private static long Passing(ExpertShape shape, IReadOnlyList<TokenRoute> routes) =>
        routes.Max(route => shape.BytesMoving(route.ArrivingRows + route.PassingRows) + shape.BytesWorked(route.ArrivingChoices));

    // Beside the blocks: the packed rows stay for backward, and the largest chunk's travel.
    private static long Fixed(ExpertShape shape, IReadOnlyList<TokenRoute> routes) =>
        routes.Sum(route => route.ArrivingRows) * shape.ArrivedStride
        + shape.BytesMoving(routes.Max(route => route.ArrivingRows + route.PassingRows))
        + shape.BytesOfMatrices(parts: 3);

    private static ExpertMemoryException Refused(ExpertShape shape, IReadOnlyList<TokenRoute> routes, long free, string name)
    {
        var rows = routes.Sum(route => route.ArrivingRows);
        var least = Fixed(shape, routes) + (Math.Min(routes.Max(route => route.ArrivingRows), SmallestBlock) * shape.BytesOfBlockRow);
        var whole = new ExpertBlockPlan(true, long.MaxValue).Bytes(shape, routes);
        return new ExpertMemoryException(string.Create(CultureInfo.InvariantCulture,
            $"{name}: {rows} tokens with {routes.Sum(route => route.ArrivingChoices)} choices would come to this rank's {shape.LocalExperts} expert(s), where an even load "
            + $"is {routes.Sum(route => route.LeavingChoices)} choices; they take {whole / Mebi:0.#} MiB, {least / Mebi:0.#} MiB in the smallest parts, and {free / Mebi:0.#} MiB are free"))
        {
            Where = name,
        };
    }
}
