namespace Moe.Torch;

/// <summary>The upper half of a float32: 8 bits of exponent, 7 of mantissa. A storage type; arithmetic is libtorch's.</summary>
/// <param name="Bits">Sign, exponent and mantissa as they stand in memory.</param>
public readonly record struct BFloat16(ushort Bits)
{
    /// <summary>The nearest value, ties to even; NaN stays NaN.</summary>
    public static explicit operator BFloat16(float value)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        return float.IsNaN(value)
            ? new BFloat16((ushort)((bits >> 16) | 0x40))
            : new BFloat16((ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16));
    }

    /// <summary>Exact: every bfloat16 is a float32.</summary>
    public static implicit operator float(BFloat16 value) => BitConverter.UInt32BitsToSingle((uint)value.Bits << 16);
}
