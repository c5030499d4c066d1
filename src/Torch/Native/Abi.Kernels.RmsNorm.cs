using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

/// <summary>The exports of native/kernels/rms_norm.cpp.</summary>
internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_rms_norm_forward")]
    public static partial int RmsNormForward(nint rows, nint change, nint weight, double epsilon, nint sum, nint normed, nint inverse);

    [LibraryImport(Library, EntryPoint = "moe_rms_norm_backward")]
    public static partial int RmsNormBackward(
        nint arriving, nint sumGradient, nint rows, nint weight, nint inverse, nint rowsGradient, nint weightGradient);
}
