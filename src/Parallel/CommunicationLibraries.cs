using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Moe.Distributed.Nccl;
using Moe.Torch.Native;

[assembly: DisableRuntimeMarshalling]

namespace Moe.Distributed;

/// <summary>Lets this assembly import from the native libraries of the project, and from NCCL.</summary>
internal static class CommunicationLibraries
{
    static CommunicationLibraries() => NativeLibrary.SetDllImportResolver(
        typeof(CommunicationLibraries).Assembly,
        (name, _, _) => name switch
        {
            NcclAbi.Library => NcclLibrary.Load(),
            _ when name.StartsWith("moe_", StringComparison.Ordinal) => NativeLibrary.Load(NativeFolder.Require(name)),
            _ => 0,
        });

    /// <summary>Has its effect once, however often it is called; a resolver can be set only once an assembly.</summary>
    public static void Resolve()
    {
    }
}
