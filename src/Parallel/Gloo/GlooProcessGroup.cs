using System.Net;
using System.Runtime.InteropServices;
using Moe.Torch;
using Moe.Torch.Native;

namespace Moe.Distributed.Gloo;

/// <summary>Ranks that met in a <see cref="StoreServer"/>, over TCP connections of c10d's Gloo backend.</summary>
/// <remarks>
/// A thread of the group carries its operations out, one after another. When a member dies, those that it talks to notice within
/// milliseconds; the others only when these close their connections, so a group that failed is destroyed at once.
/// Gloo ends the process at a message that is longer than expected, and takes a shorter one without a word: where two ranks disagree
/// on the rows of an all-to-all, only MPI says so.
/// </remarks>
public sealed class GlooProcessGroup : ProcessGroup
{
    // Up to here a gather is an exchange of copies, and an all-reduce one round of it: on 4 ranks of one machine Gloo's all-gather takes
    // 1.3 to 2.6 ms where its all-to-all takes 0.5 ms.
    private const long GatheredLimit = 128 * 1024;
    private static readonly TimeSpan DefaultStartTimeout = TimeSpan.FromMinutes(5);

    private readonly StoreConnection _store;
    private readonly IPAddress _address;
    private readonly nint _handle;
    private readonly string _key;
    private readonly bool _isWorld;

    private GlooProcessGroup(
        StoreConnection store, IPAddress address, string key, string name, int[] members, int rank, TimeSpan timeout, CollectiveTrace trace, bool isWorld)
        : base(name, members, rank, timeout, trace)
    {
        _store = store;
        _address = address;
        _key = key;
        _isWorld = isWorld;
        C10dAbi.Check(C10dAbi.CreateGroup(store.Handle, key, rank, Size, (long)timeout.TotalMilliseconds, address.ToString(), out _handle));
    }

    /// <summary>Whether libmoe_torch was built with Gloo, which needs Gloo's headers.</summary>
    public static bool IsBuilt =>
        NativeFolder.Find(C10dAbi.Library) is { } file && NativeLibrary.TryGetExport(NativeLibrary.Load(file), "moe_gloo_create", out _);

    /// <inheritdoc/>
    public override string Backend => "gloo";

    /// <summary>Meets the other ranks of the job in its store.</summary>
    /// <param name="store">Where the store is, and under which name the ranks meet.</param>
    /// <param name="rank">This process, in [0, <paramref name="size"/>).</param>
    /// <param name="size">Ranks of the job.</param>
    /// <param name="timeout">The longest that one operation may take.</param>
    /// <param name="trace">Shared by all groups of the process; left out, a new one.</param>
    /// <param name="startTimeout">The longest that the ranks may differ in their start; left out, 5 minutes.</param>
    /// <param name="spansMachines">Whether some ranks may be on other machines, and connect to this rank from there.</param>
    /// <param name="networkInterface">Name of the interface that they connect to; left out, the one on the way to the store.</param>
    /// <returns>All ranks of the job.</returns>
    /// <exception cref="CommunicationException">The store cannot be reached, there is no such interface, or not all ranks came in time.</exception>
    public static GlooProcessGroup Connect(
        StoreAddress store,
        int rank,
        int size,
        TimeSpan timeout,
        CollectiveTrace? trace = null,
        TimeSpan? startTimeout = null,
        bool spansMachines = false,
        string? networkInterface = null)
    {
        StoreConnection? connection = null;
        try
        {
            connection = new StoreConnection(store.Host, store.Port, startTimeout ?? DefaultStartTimeout);
            var towards = connection.LocalAddresses;
            var address = networkInterface is not null ? GlooAddress.Of(networkInterface, GlooAddress.OfThisMachine(), towards[0])
                : spansMachines ? GlooAddress.Choose(towards, GlooAddress.OfThisMachine(), store.Host)
                : towards[0];
            connection.Meet(store.Meeting, size);
            int[] members = [.. Enumerable.Range(0, size)];
            return new GlooProcessGroup(connection, address, store.Meeting, "world", members, rank, timeout, trace ?? new CollectiveTrace(), isWorld: true);
        }
        catch (TransferException e)
        {
            connection?.Dispose();
            throw new CommunicationException($"rank {rank} of {size} could not join the job at {store.Host}:{store.Port}: {e.Message}")
            {
                Rank = rank,
                Group = "world",
            };
        }
    }

    private protected override unsafe Transfer StartExchange(nint output, nint input, long[] outputBytes, long[] inputBytes)
    {
        fixed (long* received = outputBytes, sent = inputBytes)
        {
            C10dAbi.Check(C10dAbi.Exchange(_handle, output, received, input, sent, out var work));
            return new GlooTransfer(work);
        }
    }

    private protected override Transfer StartGather(nint output, nint input, long[] bytes)
    {
        if (bytes.Sum() <= GatheredLimit)
        {
            return ExchangeCopies(output, input, bytes);
        }

        if (Array.Exists(bytes, one => one != bytes[Rank]))
        {
            return BroadcastParts(output, input, bytes);
        }

        C10dAbi.Check(C10dAbi.Gather(_handle, output, input, bytes[Rank], out var work));
        return new GlooTransfer(work);
    }

    private protected override Transfer StartBroadcast(nint values, long bytes, int root)
    {
        C10dAbi.Check(C10dAbi.Broadcast(_handle, values, bytes, root, out var work));
        return new GlooTransfer(work);
    }

    private protected override Transfer StartBarrier()
    {
        C10dAbi.Check(C10dAbi.Barrier(_handle, out var work));
        return new GlooTransfer(work);
    }

    // Gloo's ring adds each part in a fixed order on one rank and passes the sum on: the same bits everywhere. Its Max and Min lose NaNs.
    private protected override Transfer StartAllReduce(Tensor values, ReduceOperation operation, long bytes)
    {
        if (operation != ReduceOperation.Sum || bytes * Size <= GatheredLimit)
        {
            return StartGatheredReduce(values, operation, bytes);
        }

        C10dAbi.Check(C10dAbi.AllReduce(_handle, values.DataPointer, values.Count, (int)values.DType, out var work));
        return new GlooTransfer(work);
    }

    private protected override ProcessGroup Create(int[] ranks, int[] members, string name, string key) => new GlooProcessGroup(
        _store, _address, $"{_key}/{key}", name, members, Array.IndexOf(ranks, Rank), Timeout, Trace, isWorld: false);

    private protected override void Release(Departure departure)
    {
        // Freeing waits for what is queued, and that may wait for ranks that don't come. A rank that leaves on its own, because of
        // an error of its own, exits instead, which closes the connections as well.
        if (departure == Departure.Alone && UnderWay > 0)
        {
            return;
        }

        C10dAbi.Check(C10dAbi.FreeGroup(_handle));
        if (_isWorld)
        {
            _store.Dispose();
        }
    }

    private unsafe ChainedTransfer ExchangeCopies(nint output, nint input, long[] bytes)
    {
        var own = bytes[Rank];
        var copies = Tensor.Empty([Size, own], DType.UInt8).Detached();
        for (var rank = 0; rank < Size; rank++)
        {
            Buffer.MemoryCopy((void*)input, (void*)(copies.DataPointer + (nint)(rank * own)), own, own);
        }

        return new ChainedTransfer(StartExchange(output, copies.DataPointer, bytes, Equal(own)), () =>
        {
            copies.Dispose();
            return Transfer.Done;
        });
    }

    // Gloo's all-gather takes parts of one length only. An exchange of copies takes 2.1 ms for 1 MB on 4 ranks of one machine, this 1.6 ms.
    private unsafe JoinedTransfer BroadcastParts(nint output, nint input, long[] bytes)
    {
        List<Transfer> parts = [];
        for (var rank = 0; rank < Size; rank++)
        {
            if (rank == Rank)
            {
                Buffer.MemoryCopy((void*)input, (void*)output, bytes[rank], bytes[rank]);
            }

            if (bytes[rank] > 0)
            {
                parts.Add(StartBroadcast(output, bytes[rank], rank));
            }

            output += (nint)bytes[rank];
        }

        return new JoinedTransfer(parts);
    }
}
