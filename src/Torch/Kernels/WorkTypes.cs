namespace Moe.Torch.Kernels;

/// <summary>The type that kernels work an element type in, and hold what is small beside it in: weights of norms, angles, losses.</summary>
public static class WorkTypes
{
    /// <summary>Float64 for itself, else Float32: bfloat16 is widened where it is read and rounded once, where it is written.</summary>
    public static DType Work(this DType dtype) => dtype == DType.Float64 ? DType.Float64 : DType.Float32;
}
