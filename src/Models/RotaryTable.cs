using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>
/// Angles of the rotary position embedding: at position p the pair (x[i], x[i + h/2]) of a head of width h turns by p * base^(-2i/h).
/// A query and a key then meet at an angle that depends on the distance between them only: Su et al. 2021, https://arxiv.org/abs/2104.09864.
/// </summary>
/// <remarks>
/// The pairing of GPT-NeoX and Llama. Angles are computed in double precision, whatever type they turn, and brought to each device and
/// type at the first use there.
/// </remarks>
public sealed class RotaryTable : IDisposable
{
    private readonly double[] _cosines;
    private readonly double[] _sines;
    private readonly Dictionary<(Device, DType), (Tensor Cosine, Tensor Sine)> _tables = [];

    /// <param name="positions">Positions 0 ... positions - 1 are held.</param>
    /// <param name="headWidth">Even.</param>
    /// <param name="wavelengthBase">Above 1.</param>
    public RotaryTable(int positions, int headWidth, double wavelengthBase)
    {
        (Positions, HeadWidth) = (positions, headWidth);
        var pairs = headWidth / 2;
        var angles = new double[positions * pairs];
        for (var i = 0; i < angles.Length; i++)
        {
            angles[i] = i / pairs * Math.Pow(wavelengthBase, -2.0 * (i % pairs) / headWidth);
        }

        (_cosines, _sines) = (Array.ConvertAll(angles, Math.Cos), Array.ConvertAll(angles, Math.Sin));
    }

    /// <summary>Positions that the table holds.</summary>
    public int Positions { get; }

    /// <summary>Numbers in a head.</summary>
    public int HeadWidth { get; }

    /// <summary>The same by recorded operators: the oracle of the tests.</summary>
    /// <param name="heads">[..., S, h], positions 0 ... S - 1.</param>
    public Tensor Reference(Tensor heads)
    {
        var (length, pairs) = (heads.Size(-2), HeadWidth / 2);
        var (x, y) = (heads.Narrow(-1, 0, pairs), heads.Narrow(-1, pairs, pairs));
        var (cosines, sines) = For(heads.Device, heads.DType.Work());
        var (cosine, sine) = (cosines.Narrow(0, 0, length).To(heads.DType), sines.Narrow(0, 0, length).To(heads.DType));
        return Shaping.Concatenate([x * cosine - y * sine, y * cosine + x * sine], -1);
    }

    /// <summary>Frees the angles on all devices.</summary>
    public void Dispose()
    {
        foreach (var (cosine, sine) in _tables.Values)
        {
            cosine.Dispose();
            sine.Dispose();
        }

        _tables.Clear();
    }

    /// <summary>Cosines and sines [positions, h / 2] on a device, owned by this table.</summary>
    /// <param name="device">Where they are to stand.</param>
    /// <param name="dtype">Float32 or Float64.</param>
    internal (Tensor Cosine, Tensor Sine) For(Device device, DType dtype)
    {
        if (!_tables.TryGetValue((device, dtype), out var table))
        {
            table = (Bring(_cosines), Bring(_sines));
            _tables.Add((device, dtype), table);
        }

        return table;

        Tensor Bring(double[] values)
        {
            using var scope = new TensorScope();
            return scope.Keep(Tensor.From(values).View(Positions, HeadWidth / 2).To(dtype).To(device)).Detached();
        }
    }
}
