using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_experts_fit")]
    public static partial int ExpertsFit(int type, long experts, long width, long hidden, out int fit);

    [LibraryImport(Library, EntryPoint = "moe_experts_forward")]
    public static partial int ExpertsForward(nint rows, nint gateUp, nint down, nint offsets, nint weights, nint hidden, nint output);

    [LibraryImport(Library, EntryPoint = "moe_experts_backward")]
    public static partial int ExpertsBackward(
        nint rows,
        nint gateUp,
        nint down,
        nint offsets,
        nint weights,
        nint hidden,
        nint arriving,
        nint rowsGradient,
        nint weightsGradient,
        nint gateUpGradient,
        nint downGradient);
}
