using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>What the experts of a rank take of memory for the rows that come to them, in bytes.</summary>
/// <param name="Width">D.</param>
/// <param name="Hidden">F.</param>
/// <param name="Slots">k.</param>
/// <param name="LocalExperts">E.</param>
/// <param name="Type">Of rows and matrices.</param>
internal sealed record ExpertShape(long Width, long Hidden, long Slots, int LocalExperts, DType Type)
{
    private const long BytesOfPlace = sizeof(int);

    private long Wide => Type == DType.Float64 ? sizeof(double) : sizeof(float);

    /// <summary>Of one packed row that arrives.</summary>
    internal long ArrivedStride => PackedRows.Stride(Type, Width, Slots, withIds: true) * Type.Size();

    private long ReturnedStride => PackedRows.Stride(Type, Width, Slots, withIds: false) * Type.Size();

    /// <summary>At most, of one arrived row within a block that keeps nothing: sorted rows and hidden ones, made again, beside what <see cref="BytesWorked"/> counts.</summary>
    internal long BytesOfBlockRow =>
        BytesWorked(Math.Min(Slots, LocalExperts)) + (Math.Min(Slots, LocalExperts) * (Width + (2 * Hidden)) * Type.Size()) + (Slots * (Wide + sizeof(long) + (4 * BytesOfPlace)));

    /// <summary>Kept from forward to backward: sorted rows, hidden ones, their weights and order.</summary>
    internal long BytesKept(long rows, long choices) =>
        (choices * (((Width + (2 * Hidden)) * Type.Size()) + Wide + BytesOfPlace)) + (rows * Slots * BytesOfPlace);

    /// <summary>Packed rows, and sums, of which each may be there twice while they travel.</summary>
    internal long BytesMoving(long rows) => rows * (ArrivedStride + ReturnedStride + (2 * Width * Type.Size()));

    /// <summary>What a backward makes of the rows; a forward makes less.</summary>
    internal long BytesWorked(long choices) => choices * ((3 * Width) + (4 * Hidden)) * Type.Size();

    /// <summary>The gradients of the matrices as a sum of several parts.</summary>
    internal long BytesOfMatrices(int parts) =>
        3 * LocalExperts * Hidden * Width * (Type.Size() + (parts > 2 ? Math.Max(Type.Size(), sizeof(float)) : parts > 1 ? Type.Size() : 0));
}
