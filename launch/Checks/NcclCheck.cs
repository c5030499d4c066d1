using System.Runtime.InteropServices;

namespace Moe.Launch.Checks;

/// <summary>NCCL's version, by loading it.</summary>
internal sealed class NcclCheck : Check
{
    public override string Name => "NCCL";

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        yield return Look();
    }

    private static Finding Look()
    {
        if (!NativeLibrary.TryLoad("libnccl.so.2", out var library))
        {
            return Finding.Skipped("NCCL: no libnccl.so.2 where libraries are looked for");
        }

        if (!NativeLibrary.TryGetExport(library, "ncclGetVersion", out var address))
        {
            return new Finding(Verdict.Warns, "NCCL: libnccl.so.2 has no ncclGetVersion", "reinstall NCCL (libnccl2)");
        }

        var status = Version(address, out var version);
        return status == 0
            ? Finding.Works($"NCCL {version / 10000}.{version / 100 % 100}.{version % 100}")
            : new Finding(Verdict.Warns, $"NCCL: ncclGetVersion answers {status}", "reinstall NCCL (libnccl2)");
    }

    private static unsafe int Version(nint address, out int version)
    {
        var found = 0;
        var status = ((delegate* unmanaged<int*, int>)address)(&found);
        version = found;
        return status;
    }
}
