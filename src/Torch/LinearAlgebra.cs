using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>Matrix products and table look-ups.</summary>
public static class LinearAlgebra
{
    private static readonly Operator MatMulOp = new("aten::matmul");
    private static readonly Operator LinearOp = new("aten::linear");
    private static readonly Operator MatMulOut = new("aten::mm", "out");
    private static readonly Operator BatchMatMulOut = new("aten::bmm", "out");
    private static readonly Operator BatchMatMulAddOut = new("aten::baddbmm", "out");
    private static readonly Operator SingularValuesOp = new("aten::linalg_svd");
    private static readonly Operator BatchAddMatMulInPlace = new("aten::baddbmm_");
    private static readonly Operator EmbeddingOp = new("aten::embedding");
    private static readonly Operator DotProductAttentionOp = new("aten::scaled_dot_product_attention");

    private static readonly Lazy<bool> AddsUpWide = new(() =>
    {
        Abi.Check(Abi.AddsUpWide(out var wide));
        return wide != 0;
    });

    /// <summary>
    /// The type that libtorch's own products should be made in: where the host adds bfloat16 up in bfloat16, float32 stands in. Products of some thousand multiplications it
    /// adds up so on any processor.
    /// </summary>
    /// <param name="type">Of the factors.</param>
    /// <param name="device">Where they stand.</param>
    public static DType ProductType(DType type, Device device) => type == DType.BFloat16 && !device.IsCuda && !AddsUpWide.Value ? DType.Float32 : type;

    /// <summary>Matrix product over the last two dimensions, the others broadcast: [..., M, K] x [..., K, N] -> [..., M, N].</summary>
    public static Tensor MatMul(this Tensor x, Tensor y) => MatMulOp.Call(x, y);

    /// <summary>x [..., I] times the transpose of <paramref name="weight"/> [O, I] -> [..., O].</summary>
    public static Tensor Linear(this Tensor x, Tensor weight) => LinearOp.Call(x, weight);

    /// <summary>Writes x [M, K] times y [K, N] into <paramref name="result"/> [M, N], which may be a view.</summary>
    public static Tensor MatMulInto(this Tensor x, Tensor y, Tensor result) => Write(MatMulOut, result, x, y);

    /// <summary>Writes x [B, M, K] times y [B, K, N], pair by pair, into <paramref name="result"/> [B, M, N], which may be a view.</summary>
    public static Tensor BatchMatMulInto(this Tensor x, Tensor y, Tensor result) => Write(BatchMatMulOut, result, x, y);

    /// <summary>
    /// Writes <paramref name="scale"/> * term + <paramref name="productScale"/> * x y, matrix by matrix, into <paramref name="result"/> [B, M, N], which is
    /// none of the others: term [B, M, N], x [B, M, K], y [B, K, N].
    /// </summary>
    public static Tensor BatchMatMulAddInto(Tensor term, double scale, Tensor x, Tensor y, double productScale, Tensor result)
    {
        BatchMatMulAddOut.Call(term, x, y, scale, productScale, result).Dispose(); // the result comes back as a second handle
        return result;
    }

    /// <summary>Singular values and vectors of x [..., M, N], with k = min(M, N): x = left * values * right.</summary>
    /// <returns>Left [..., M, k], values [..., k] from the largest on, right [..., k, N].</returns>
    public static (Tensor Left, Tensor Values, Tensor Right) SingularValues(this Tensor x) =>
        SingularValuesOp.CallMany(3, x, false) is [var left, var values, var right] ? (left, values, right) : throw new InvalidOperationException("three tensors");

    /// <summary>x [B, M, N] += scale * y [B, M, K] times z [B, K, N], pair by pair.</summary>
    public static Tensor BatchAddMatMul_(this Tensor x, Tensor y, Tensor z, double scale = 1) => BatchAddMatMulInPlace.CallInPlace(x, y, z, 1.0, scale);

    /// <summary>Rows of <paramref name="table"/> [V, D] at <paramref name="indices"/> [...] (int64) -> [..., D].</summary>
    public static Tensor Embedding(this Tensor table, Tensor indices) => EmbeddingOp.Call(table, indices);

    /// <summary>
    /// Softmax over the places up to a query's own of query key^T / sqrt(h), times value, by the device's fastest form: query [B, H, S, h], key and value
    /// [B, K, S, h] -> [B, H, S, h]. H / K neighbouring queries share a key; where H is not K, libtorch 2.5 is needed.
    /// </summary>
    public static Tensor CausalAttention(Tensor query, Tensor key, Tensor value)
    {
        const double Dropout = 0;
        return query.Size(1) == key.Size(1)
            ? DotProductAttentionOp.Call(query, key, value, Argument.None, Dropout, true)
            : DotProductAttentionOp.Call(query, key, value, Argument.None, Dropout, true, Argument.None, true);
    }

    private static Tensor Write(Operator target, Tensor result, Tensor x, Tensor y)
    {
        target.Call(x, y, result).Dispose(); // the result comes back as a second handle
        return result;
    }
}
