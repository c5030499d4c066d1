using Moe.Torch;

namespace Moe.Models;

/// <summary>The gradient of a matrix as the sum of several parts, in the order in which they come.</summary>
/// <remarks>
/// One part is the gradient. Two are added in their own type, which rounds the sum once, as a sum in float32 would be; more than two of bfloat16 are added in float32.
/// </remarks>
/// <param name="parts">How many there will be.</param>
internal sealed class GradientTotal(int parts)
{
    private Tensor? _sum;
    private DType _type;

    /// <summary>Adds a part, which is of no more use to the caller.</summary>
    internal void Add(Tensor part)
    {
        if (_sum is not null)
        {
            _sum.Add_(part);
            part.Dispose();
            return;
        }

        _type = part.DType;
        _sum = (parts > 2 && _type == DType.BFloat16 ? part.To(DType.Float32) : part).Detached();
    }

    /// <summary>The sum of all parts, of their type; once.</summary>
    internal Tensor Take()
    {
        using var sum = _sum!;
        return sum.DType == _type ? sum.Share() : sum.To(_type);
    }
}
