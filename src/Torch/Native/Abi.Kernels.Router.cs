using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_router_forward")]
    public static partial int RouterForward(
        nint logits,
        nint bias,
        long segments,
        long slots,
        int sigmoid,
        int normalize,
        double scale,
        nint ids,
        nint weights,
        nint chosen,
        nint counts,
        nint sums,
        nint squares);

    [LibraryImport(Library, EntryPoint = "moe_router_backward")]
    public static partial int RouterBackward(
        nint logits,
        nint ids,
        long segments,
        long slots,
        int sigmoid,
        int normalize,
        double scale,
        nint weightGradient,
        nint sumGradient,
        nint squareGradient,
        nint logitGradient);
}
