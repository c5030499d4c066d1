namespace Moe.Torch;

/// <summary>Where one tensor stands in a safetensors file.</summary>
/// <param name="Key">Unique in the file.</param>
/// <param name="DType">Type of the elements.</param>
/// <param name="Shape">Lengths of the dimensions; empty for a scalar.</param>
/// <param name="Offset">First byte, counted from the end of the header.</param>
/// <param name="Length">Bytes: elements times their size, last dimension fastest, without gaps.</param>
public sealed record SafeTensorsEntry(string Key, DType DType, IReadOnlyList<long> Shape, long Offset, long Length)
{
    internal long End => Offset + Length;
}
