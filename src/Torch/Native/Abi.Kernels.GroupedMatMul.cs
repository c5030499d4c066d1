using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_grouped_matmul")]
    public static partial int GroupedMatMul(nint left, nint right, nint offsets, out nint result);

    [LibraryImport(Library, EntryPoint = "moe_gated_matmul")]
    public static partial int GatedMatMul(nint rows, nint gateUp, nint offsets, nint weights, out nint product, out nint activation);

    [LibraryImport(Library, EntryPoint = "moe_grouped_matmul_step")]
    public static partial int GroupedMatMulStep(
        nint left, nint right, nint offsets, int rule, nint* slots, long slotCount, double* coefficients, long coefficientCount, int skipsIdle, out nint squares);

    [LibraryImport(Library, EntryPoint = "moe_gated_matmul_backward")]
    public static partial int GatedMatMulBackward(
        nint arriving,
        nint down,
        nint offsets,
        nint hidden,
        nint weights,
        out nint product,
        out nint activation,
        out nint hiddenGradient,
        out nint weightGradient);
}
