using System.Globalization;

namespace Moe.Torch;

/// <summary>Where a tensor stands: host memory, or a CUDA device of this machine.</summary>
/// <param name="Index">Of the CUDA device, from 0; -1 for host memory.</param>
public readonly record struct Device(int Index)
{
    /// <summary>Host memory.</summary>
    public static Device Cpu => new(-1);

    /// <summary>A CUDA device.</summary>
    /// <param name="index">From 0.</param>
    public static Device Cuda(int index) => new(index);

    /// <summary>Whether it is a CUDA device.</summary>
    public bool IsCuda => Index >= 0;

    /// <inheritdoc/>
    public override string ToString() => IsCuda ? string.Create(CultureInfo.InvariantCulture, $"cuda:{Index}") : "cpu";
}
