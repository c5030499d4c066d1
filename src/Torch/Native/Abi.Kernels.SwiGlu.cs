using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_swiglu_forward")]
    public static partial int SwiGluForward(nint input, nint weights, nint activation);

    [LibraryImport(Library, EntryPoint = "moe_swiglu_backward")]
    public static partial int SwiGluBackward(nint input, nint weights, nint arriving, nint activation, nint inputGradient, nint weightGradient);
}
