using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_sort_pairs")]
    public static partial int SortPairs(nint ids, long experts, nint pairs, nint places, nint counts, nint offsets, out int known, out long unknown);

    [LibraryImport(Library, EntryPoint = "moe_spread_rows")]
    public static partial int SpreadRows(nint source, nint places, long slots, nint offsets, nint result);

    [LibraryImport(Library, EntryPoint = "moe_sum_rows")]
    public static partial int SumRows(nint source, nint places, long slots, nint added, nint result);

    [LibraryImport(Library, EntryPoint = "moe_pick_numbers")]
    public static partial int PickNumbers(nint source, nint places, nint result);
}
