using System.Runtime.InteropServices;
using Moe.Torch.Native;

namespace Moe.Distributed.Mpi;

/// <summary>The exports of libmoe_mpi, one to one. Each call is checked where it is made: <c>MpiAbi.Check(MpiAbi.Barrier(...))</c>.</summary>
internal static unsafe partial class MpiAbi
{
    public const string Library = "moe_mpi";

    static MpiAbi()
    {
        CommunicationLibraries.Resolve();
        NativeFolder.CheckAbi(Library, moe_mpi_abi());
    }

    public static void Check(int status)
    {
        if (status != 0)
        {
            throw new TransferException(Marshal.PtrToStringUTF8((nint)moe_mpi_last_error())!);
        }
    }

    [LibraryImport(Library)]
    private static partial int moe_mpi_abi();

    [LibraryImport(Library)]
    private static partial byte* moe_mpi_last_error();

    [LibraryImport(Library, EntryPoint = "moe_mpi_init")]
    public static partial int Initialize(out nint world, out int rank, out int size, out int tagLimit);

    [LibraryImport(Library, EntryPoint = "moe_mpi_finalize")]
    public static partial int Complete();

    [LibraryImport(Library, EntryPoint = "moe_mpi_group_create")]
    public static partial int CreateGroup(nint parent, int* ranks, int count, out nint created);

    [LibraryImport(Library, EntryPoint = "moe_mpi_group_free")]
    public static partial int FreeGroup(nint group);

    [LibraryImport(Library, EntryPoint = "moe_mpi_exchange")]
    public static partial int Exchange(
        nint group,
        int tag,
        long messageLimit,
        nint output,
        long* receiveOffsets,
        long* receiveBytes,
        nint input,
        long* sendOffsets,
        long* sendBytes,
        out nint transfer);

    [LibraryImport(Library, EntryPoint = "moe_mpi_broadcast")]
    public static partial int Broadcast(nint group, nint values, long bytes, int root, long messageLimit, out nint transfer);

    [LibraryImport(Library, EntryPoint = "moe_mpi_barrier")]
    public static partial int Barrier(nint group, out nint transfer);

    [LibraryImport(Library, EntryPoint = "moe_mpi_test")]
    public static partial int Test(nint transfer, out int done);

    [LibraryImport(Library, EntryPoint = "moe_mpi_wait")]
    public static partial int Wait(nint transfer, long timeoutMilliseconds, out int done);

    [LibraryImport(Library, EntryPoint = "moe_mpi_open_peers")]
    public static partial int OpenPeers(nint transfer, int* peers, int capacity, out int count);

    [LibraryImport(Library, EntryPoint = "moe_mpi_transfer_free")]
    public static partial int FreeTransfer(nint transfer);
}
