namespace Moe.Torch;

/// <summary>The names that the safetensors format gives to element types.</summary>
internal static class SafeTensorsTypes
{
    // In the order of the reference implementation, which writes tensors of the last type first, so that each stands aligned.
    private static readonly (string Name, DType DType)[] Types =
    [
        ("BOOL", DType.Bool), ("U8", DType.UInt8), ("BF16", DType.BFloat16), ("I32", DType.Int32),
        ("F32", DType.Float32), ("F64", DType.Float64), ("I64", DType.Int64),
    ];

    /// <summary>All names, for messages.</summary>
    internal static string Names => string.Join(", ", Types.Select(t => t.Name));

    internal static string NameOf(DType dtype) => Types[WriteOrder(dtype)].Name;

    /// <summary>Tensors of higher numbers are written first.</summary>
    internal static int WriteOrder(DType dtype) => Array.FindIndex(Types, t => t.DType == dtype);

    internal static bool TryParse(string name, out DType dtype)
    {
        var index = Array.FindIndex(Types, t => t.Name == name);
        dtype = index < 0 ? default : Types[index].DType;
        return index >= 0;
    }
}
