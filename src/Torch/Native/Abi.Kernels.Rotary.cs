using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

/// <summary>The exports of native/kernels/rotary.cpp.</summary>
internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_rotary_forward")]
    public static partial int RotaryForward(nint packed, nint cosine, nint sine, nint query, nint key, nint value);

    [LibraryImport(Library, EntryPoint = "moe_rotary_backward")]
    public static partial int RotaryBackward(nint query, nint key, nint value, nint cosine, nint sine, nint packed);
}
