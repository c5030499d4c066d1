using System.Globalization;

namespace Moe.Torch;

/// <summary>Where a tensor stands: host memory, which is the default, or a CUDA device of this machine.</summary>
public readonly record struct Device
{
    private readonly int _place; // index + 1, so that the default is the host

    internal Device(int index) => _place = index + 1;

    /// <summary>Host memory.</summary>
    public static Device Cpu => default;

    /// <summary>Of the CUDA device, from 0; -1 for host memory.</summary>
    public int Index => _place - 1;

    /// <summary>Whether it is a CUDA device.</summary>
    public bool IsCuda => _place > 0;

    /// <summary>A CUDA device.</summary>
    /// <param name="index">From 0.</param>
    public static Device Cuda(int index) => new(index);

    /// <inheritdoc/>
    public override string ToString() => IsCuda ? string.Create(CultureInfo.InvariantCulture, $"cuda:{Index}") : "cpu";
}
