using System.Runtime.InteropServices;
using Moe.Torch;

namespace Moe.Distributed.Nccl;

/// <summary>What the ranks of a communicator share, laid out as <c>ncclUniqueId</c>: 128 bytes, handed over by value.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NcclUniqueId
{
    public const int Bytes = 128;

    public fixed byte Content[Bytes];
}

/// <summary><c>ncclDataType_t</c>. What is only moved is moved as bytes.</summary>
internal enum NcclType
{
    Int8 = 0,
    Int32 = 2,
    Int64 = 4,
    Float32 = 7,
    Float64 = 8,
}

/// <summary>The exports of libnccl.so.2 that are used, one to one; all are in 2.13 and later. Each call is checked where it is made: <c>NcclAbi.Check(NcclAbi.GroupEnd())</c>.</summary>
internal static unsafe partial class NcclAbi
{
    public const string Library = "nccl";

    // ncclRedOp_t and ncclResult_t.
    public const int Sum = 0;
    public const int Success = 0;
    public const int InProgress = 7;

    static NcclAbi() => CommunicationLibraries.Resolve();

    /// <param name="status">What an export returned.</param>
    /// <param name="communicator">Whose last error says more; 0 for none.</param>
    public static void Check(int status, nint communicator = 0)
    {
        if (status != Success)
        {
            throw new TransferException(Describe(status, communicator));
        }
    }

    public static string Describe(int status, nint communicator)
    {
        var detail = Marshal.PtrToStringUTF8((nint)GetLastError(communicator));
        return $"NCCL: {Marshal.PtrToStringUTF8((nint)GetErrorString(status))}{(string.IsNullOrWhiteSpace(detail) ? "" : $" ({detail.Trim()})")}";
    }

    /// <summary>The type in which NCCL adds up numbers of a tensor.</summary>
    public static NcclType TypeOf(DType type) => type switch
    {
        DType.Float32 => NcclType.Float32,
        DType.Float64 => NcclType.Float64,
        DType.Int32 => NcclType.Int32,
        DType.Int64 => NcclType.Int64,
        _ => throw new ArgumentException($"{type} cannot be reduced", nameof(type)),
    };

    [LibraryImport(Library, EntryPoint = "ncclGetVersion")]
    public static partial int GetVersion(out int version);

    [LibraryImport(Library, EntryPoint = "ncclGetUniqueId")]
    public static partial int GetUniqueId(NcclUniqueId* id);

    [LibraryImport(Library, EntryPoint = "ncclCommInitRank")]
    public static partial int Join(out nint communicator, int size, NcclUniqueId id, int rank);

    [LibraryImport(Library, EntryPoint = "ncclCommAbort")]
    public static partial int Abort(nint communicator);

    [LibraryImport(Library, EntryPoint = "ncclCommGetAsyncError")]
    public static partial int GetAsyncError(nint communicator, out int status);

    [LibraryImport(Library, EntryPoint = "ncclGetErrorString")]
    private static partial byte* GetErrorString(int status);

    [LibraryImport(Library, EntryPoint = "ncclGetLastError")]
    private static partial byte* GetLastError(nint communicator);

    [LibraryImport(Library, EntryPoint = "ncclGroupStart")]
    public static partial int GroupStart();

    [LibraryImport(Library, EntryPoint = "ncclGroupEnd")]
    public static partial int GroupEnd();

    [LibraryImport(Library, EntryPoint = "ncclSend")]
    public static partial int Send(nint from, nuint count, NcclType type, int peer, nint communicator, nint stream);

    [LibraryImport(Library, EntryPoint = "ncclRecv")]
    public static partial int Receive(nint to, nuint count, NcclType type, int peer, nint communicator, nint stream);

    [LibraryImport(Library, EntryPoint = "ncclBroadcast")]
    public static partial int Broadcast(nint from, nint to, nuint count, NcclType type, int root, nint communicator, nint stream);

    [LibraryImport(Library, EntryPoint = "ncclAllGather")]
    public static partial int AllGather(nint from, nint to, nuint count, NcclType type, nint communicator, nint stream);

    [LibraryImport(Library, EntryPoint = "ncclAllReduce")]
    public static partial int AllReduce(nint from, nint to, nuint count, NcclType type, int operation, nint communicator, nint stream);

    [LibraryImport(Library, EntryPoint = "ncclReduce")]
    public static partial int Reduce(nint from, nint to, nuint count, NcclType type, int operation, int root, nint communicator, nint stream);

    [LibraryImport(Library, EntryPoint = "ncclReduceScatter")]
    public static partial int ReduceScatter(nint from, nint to, nuint count, NcclType type, int operation, nint communicator, nint stream);
}
