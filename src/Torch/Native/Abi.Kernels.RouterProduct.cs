using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

/// <summary>The exports of native/kernels/split.cpp.</summary>
internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_has_wide_product")]
    public static partial int HasWideProduct(out int has);

    [LibraryImport(Library, EntryPoint = "moe_router_product_forward")]
    public static partial int RouterProductForward(nint x, nint weight, nint logits);

    [LibraryImport(Library, EntryPoint = "moe_router_product_backward")]
    public static partial int RouterProductBackward(nint x, nint weight, nint arriving, nint inputGradient, nint weightGradient);
}
