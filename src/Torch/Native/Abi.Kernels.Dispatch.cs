using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_plan_dispatch")]
    public static partial int PlanDispatch(nint ids, long experts, long ranks, nint destinations, nint sizes, out int known, out long unknown);

    [LibraryImport(Library, EntryPoint = "moe_pack_rows")]
    public static partial int PackRows(nint tokens, nint weights, nint ids, nint destinations, nint pairs, long local, nint packed);

    [LibraryImport(Library, EntryPoint = "moe_unpack_choices")]
    public static partial int UnpackChoices(nint packed, long width, nint ids, nint weights);

    [LibraryImport(Library, EntryPoint = "moe_pack_weights")]
    public static partial int PackWeights(nint numbers, nint places, long width, long slots, nint packed);

    [LibraryImport(Library, EntryPoint = "moe_collect_weights")]
    public static partial int CollectWeights(nint packed, long width, nint ids, nint destinations, nint places, long local, long experts, nint weights);
}
