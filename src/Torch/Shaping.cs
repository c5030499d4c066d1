namespace Moe.Torch;

/// <summary>Operators that change a tensor's shape, type or place, or pick parts of it. Negative dimensions count from the end.</summary>
public static class Shaping
{
    private static readonly Operator ViewOp = new("aten::view");
    private static readonly Operator ReshapeOp = new("aten::reshape");
    private static readonly Operator TransposeOp = new("aten::transpose", "int");
    private static readonly Operator PermuteOp = new("aten::permute");
    private static readonly Operator ContiguousOp = new("aten::contiguous");
    private static readonly Operator NarrowOp = new("aten::narrow");
    private static readonly Operator SelectOp = new("aten::select", "int");
    private static readonly Operator UnsqueezeOp = new("aten::unsqueeze");
    private static readonly Operator ExpandOp = new("aten::expand");
    private static readonly Operator ConcatenateOp = new("aten::cat");
    private static readonly Operator StackOp = new("aten::stack");
    private static readonly Operator SplitOp = new("aten::split_with_sizes");
    private static readonly Operator UnbindOp = new("aten::unbind", "int");
    private static readonly Operator IndexSelectOp = new("aten::index_select");
    private static readonly Operator GatherOp = new("aten::gather");
    private static readonly Operator IndexCopyInPlace = new("aten::index_copy_");
    private static readonly Operator ScatterAddInPlace = new("aten::scatter_add_");
    private static readonly Operator ToOp = new("aten::to", "dtype");
    private static readonly Operator DetachOp = new("aten::detach");
    private static readonly Operator CloneOp = new("aten::clone");
    private static readonly Operator UpperTriangleOp = new("aten::triu");

    /// <summary>The same elements under another shape, without a copy; one length may be -1.</summary>
    public static Tensor View(this Tensor x, params long[] shape) => ViewOp.Call(x, shape);

    /// <summary>The same elements under another shape, copied only where a view can't be; one length may be -1.</summary>
    public static Tensor Reshape(this Tensor x, params long[] shape) => ReshapeOp.Call(x, shape);

    /// <summary>A view with two dimensions exchanged.</summary>
    public static Tensor Transpose(this Tensor x, int first = -2, int second = -1) => TransposeOp.Call(x, first, second);

    /// <summary>A view with the dimensions in another order.</summary>
    public static Tensor Permute(this Tensor x, params long[] order) => PermuteOp.Call(x, order);

    /// <summary>The tensor itself where it has no gaps, else a packed copy.</summary>
    public static Tensor Contiguous(this Tensor x) => ContiguousOp.Call(x);

    /// <summary>A view of <paramref name="length"/> places of one dimension.</summary>
    public static Tensor Narrow(this Tensor x, int dimension, long start, long length) => NarrowOp.Call(x, dimension, start, length);

    /// <summary>A view of one place of a dimension, which goes away.</summary>
    public static Tensor Select(this Tensor x, int dimension, long index) => SelectOp.Call(x, dimension, index);

    /// <summary>A view with one more dimension, of length 1.</summary>
    public static Tensor Unsqueeze(this Tensor x, int dimension) => UnsqueezeOp.Call(x, dimension);

    /// <summary>A view whose dimensions of length 1 repeat; -1 keeps a length.</summary>
    public static Tensor Expand(this Tensor x, params long[] shape) => ExpandOp.Call(x, shape);

    /// <summary>The tensors one after another along a dimension.</summary>
    public static Tensor Concatenate(Tensor[] parts, int dimension = 0) => ConcatenateOp.Call(parts, dimension);

    /// <summary>The tensors, all of one shape, along a new dimension.</summary>
    public static Tensor Stack(Tensor[] parts, int dimension = 0) => StackOp.Call(parts, dimension);

    /// <summary>Views of consecutive <paramref name="lengths"/> of a dimension.</summary>
    public static Tensor[] Split(this Tensor x, long[] lengths, int dimension = 0) => SplitOp.CallMany(lengths.Length, x, lengths, dimension);

    /// <summary>Views of the places of the first dimension, all in one call.</summary>
    public static Tensor[] Unbind(this Tensor x) => UnbindOp.CallMany(checked((int)x.Size(0)), x);

    /// <summary>The places <paramref name="index"/> [n] (int64) of a dimension; the result has length n there.</summary>
    public static Tensor IndexSelect(this Tensor x, int dimension, Tensor index) => IndexSelectOp.Call(x, dimension, index);

    /// <summary>result[i][j] = x[i][index[i][j]] for dimension 1, and so on; the shape is that of <paramref name="index"/> (int64).</summary>
    public static Tensor Gather(this Tensor x, int dimension, Tensor index) => GatherOp.Call(x, dimension, index);

    /// <summary>x[index[i]] = source[i] along a dimension.</summary>
    public static Tensor IndexCopy_(this Tensor x, int dimension, Tensor index, Tensor source) => IndexCopyInPlace.CallInPlace(x, dimension, index, source);

    /// <summary>x[i][index[i][j]] += source[i][j] for dimension 1, and so on.</summary>
    public static Tensor ScatterAdd_(this Tensor x, int dimension, Tensor index, Tensor source) => ScatterAddInPlace.CallInPlace(x, dimension, index, source);

    /// <summary>The tensor itself where it has the type already, else a converted copy.</summary>
    public static Tensor To(this Tensor x, DType dtype) => ToOp.Call(x, dtype);

    /// <summary>The same storage, outside the autograd graph.</summary>
    public static Tensor Detach(this Tensor x) => DetachOp.Call(x);

    /// <summary>A copy with storage of its own.</summary>
    public static Tensor Clone(this Tensor x) => CloneOp.Call(x);

    /// <summary>The tensor's upper triangle [..., R, C], from the given diagonal on; zeros below.</summary>
    public static Tensor UpperTriangle(this Tensor x, long diagonal = 0) => UpperTriangleOp.Call(x, diagonal);
}
