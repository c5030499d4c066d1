using System.Runtime.InteropServices;

namespace Moe.Distributed;

/// <summary>The exports of libmoe_torch for communication, one to one. Each call is checked where it is made: <c>C10dAbi.Check(C10dAbi.Barrier(...))</c>.</summary>
internal static unsafe partial class C10dAbi
{
    public const string Library = "moe_torch";

    static C10dAbi() => CommunicationLibraries.Resolve();

    public static void Check(int status)
    {
        if (status != 0)
        {
            throw new TransferException(Marshal.PtrToStringUTF8((nint)moe_last_error())!);
        }
    }

    [LibraryImport(Library)]
    private static partial byte* moe_last_error();

    [LibraryImport(Library, EntryPoint = "moe_reduce_rows")]
    public static partial int ReduceRows(nint result, nint rows, long rowCount, long count, int dtype, int operation);

    [LibraryImport(Library, EntryPoint = "moe_store_serve")]
    public static partial int Serve(ref int port, out nint store);

    [LibraryImport(Library, EntryPoint = "moe_store_connect", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Connect(string host, int port, long timeoutMilliseconds, out nint store);

    [LibraryImport(Library, EntryPoint = "moe_store_free")]
    public static partial int FreeStore(nint store);

    [LibraryImport(Library, EntryPoint = "moe_store_meet", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Meet(nint store, string prefix, int size);

    [LibraryImport(Library, EntryPoint = "moe_store_set", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int SetKey(nint store, string key, byte* value, long bytes);

    [LibraryImport(Library, EntryPoint = "moe_store_has", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int HasKey(nint store, string key, out int found);

    [LibraryImport(Library, EntryPoint = "moe_store_get", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int GetKey(nint store, string key, byte* value, ref long bytes);

    [LibraryImport(Library, EntryPoint = "moe_gloo_create", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int CreateGroup(
        nint store, string prefix, int rank, int size, long timeoutMilliseconds, string host, out nint group);

    [LibraryImport(Library, EntryPoint = "moe_gloo_free")]
    public static partial int FreeGroup(nint group);

    [LibraryImport(Library, EntryPoint = "moe_gloo_exchange")]
    public static partial int Exchange(nint group, nint output, long* receiveBytes, nint input, long* sendBytes, out nint work);

    [LibraryImport(Library, EntryPoint = "moe_gloo_gather")]
    public static partial int Gather(nint group, nint output, nint input, long bytes, out nint work);

    [LibraryImport(Library, EntryPoint = "moe_gloo_all_reduce")]
    public static partial int AllReduce(nint group, nint values, long count, int dtype, out nint work);

    [LibraryImport(Library, EntryPoint = "moe_gloo_broadcast")]
    public static partial int Broadcast(nint group, nint values, long bytes, int root, out nint work);

    [LibraryImport(Library, EntryPoint = "moe_gloo_barrier")]
    public static partial int Barrier(nint group, out nint work);

    [LibraryImport(Library, EntryPoint = "moe_work_test")]
    public static partial int Test(nint work, out int done);

    [LibraryImport(Library, EntryPoint = "moe_work_wait")]
    public static partial int Wait(nint work);

    [LibraryImport(Library, EntryPoint = "moe_work_free")]
    public static partial int FreeWork(nint work);
}
