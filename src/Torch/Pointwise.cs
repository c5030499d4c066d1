namespace Moe.Torch;

/// <summary>Operators that work on each element, with libtorch's broadcasting of shapes.</summary>
public static class Pointwise
{
    private static readonly Operator AddTensor = new("aten::add", "Tensor");
    private static readonly Operator AddScalar = new("aten::add", "Scalar");
    private static readonly Operator SubtractTensor = new("aten::sub", "Tensor");
    private static readonly Operator MultiplyTensor = new("aten::mul", "Tensor");
    private static readonly Operator MultiplyScalar = new("aten::mul", "Scalar");
    private static readonly Operator DivideTensor = new("aten::div", "Tensor");
    private static readonly Operator DivideScalar = new("aten::div", "Scalar");
    private static readonly Operator NegateOp = new("aten::neg");
    private static readonly Operator ExpOp = new("aten::exp");
    private static readonly Operator RsqrtOp = new("aten::rsqrt");
    private static readonly Operator AbsOp = new("aten::abs");
    private static readonly Operator SignOp = new("aten::sign");
    private static readonly Operator SigmoidOp = new("aten::sigmoid");
    private static readonly Operator SiluOp = new("aten::silu");
    private static readonly Operator ClampOp = new("aten::clamp");
    private static readonly Operator ClampMinOp = new("aten::clamp_min");
    private static readonly Operator MaskedFillOp = new("aten::masked_fill", "Scalar");
    private static readonly Operator WhereOp = new("aten::where", "self");
    private static readonly Operator EqualTensor = new("aten::eq", "Tensor");
    private static readonly Operator EqualScalar = new("aten::eq", "Scalar");
    private static readonly Operator AtLeastTensor = new("aten::ge", "Tensor");
    private static readonly Operator AtLeastScalar = new("aten::ge", "Scalar");
    private static readonly Operator IsFiniteOp = new("aten::isfinite");
    private static readonly Operator AddInPlace = new("aten::add_", "Tensor");
    private static readonly Operator AddScalarInPlace = new("aten::add_", "Scalar");
    private static readonly Operator MultiplyInPlace = new("aten::mul_", "Tensor");
    private static readonly Operator MultiplyScalarInPlace = new("aten::mul_", "Scalar");
    private static readonly Operator DivideInPlace = new("aten::div_", "Tensor");
    private static readonly Operator AddProductInPlace = new("aten::addcmul_");
    private static readonly Operator ZeroInPlace = new("aten::zero_");
    private static readonly Operator FillInPlace = new("aten::fill_", "Scalar");
    private static readonly Operator CopyInPlace = new("aten::copy_");

    /// <summary>x + scale * y.</summary>
    public static Tensor Add(this Tensor x, Tensor y, double scale = 1) => scale == 1 ? AddTensor.Call(x, y) : AddTensor.Call(x, y, scale);

    /// <summary>x + y.</summary>
    public static Tensor Add(this Tensor x, double y) => AddScalar.Call(x, y);

    /// <summary>x - y.</summary>
    public static Tensor Subtract(this Tensor x, Tensor y) => SubtractTensor.Call(x, y);

    /// <summary>x * y.</summary>
    public static Tensor Multiply(this Tensor x, Tensor y) => MultiplyTensor.Call(x, y);

    /// <summary>x * y.</summary>
    public static Tensor Multiply(this Tensor x, double y) => MultiplyScalar.Call(x, y);

    /// <summary>x / y, a true division also for integers.</summary>
    public static Tensor Divide(this Tensor x, Tensor y) => DivideTensor.Call(x, y);

    /// <summary>x / y, a true division also for integers.</summary>
    public static Tensor Divide(this Tensor x, double y) => DivideScalar.Call(x, y);

    /// <summary>-x.</summary>
    public static Tensor Negate(this Tensor x) => NegateOp.Call(x);

    /// <summary>e to the x.</summary>
    public static Tensor Exp(this Tensor x) => ExpOp.Call(x);

    /// <summary>1 / sqrt(x).</summary>
    public static Tensor Rsqrt(this Tensor x) => RsqrtOp.Call(x);

    /// <summary>|x|.</summary>
    public static Tensor Abs(this Tensor x) => AbsOp.Call(x);

    /// <summary>-1, 0 or 1.</summary>
    public static Tensor Sign(this Tensor x) => SignOp.Call(x);

    /// <summary>1 / (1 + exp(-x)).</summary>
    public static Tensor Sigmoid(this Tensor x) => SigmoidOp.Call(x);

    /// <summary>x * sigmoid(x).</summary>
    public static Tensor Silu(this Tensor x) => SiluOp.Call(x);

    /// <summary>x, at least <paramref name="minimum"/> and at most <paramref name="maximum"/>.</summary>
    public static Tensor Clamp(this Tensor x, double minimum, double maximum) => ClampOp.Call(x, minimum, maximum);

    /// <summary>x, at least <paramref name="minimum"/>.</summary>
    public static Tensor ClampMin(this Tensor x, double minimum) => ClampMinOp.Call(x, minimum);

    /// <summary>x with <paramref name="value"/> where <paramref name="mask"/> (bool, broadcast to x) holds.</summary>
    public static Tensor MaskedFill(this Tensor x, Tensor mask, double value) => MaskedFillOp.Call(x, mask, value);

    /// <summary>x where <paramref name="condition"/> (bool) holds, else y.</summary>
    public static Tensor Where(Tensor condition, Tensor x, Tensor y) => WhereOp.Call(condition, x, y);

    /// <summary>x == y, as bool.</summary>
    public static Tensor IsEqual(this Tensor x, Tensor y) => EqualTensor.Call(x, y);

    /// <summary>x == y, as bool.</summary>
    public static Tensor IsEqual(this Tensor x, double y) => EqualScalar.Call(x, y);

    /// <summary>x &gt;= y, as bool.</summary>
    public static Tensor IsAtLeast(this Tensor x, Tensor y) => AtLeastTensor.Call(x, y);

    /// <summary>x &gt;= y, as bool.</summary>
    public static Tensor IsAtLeast(this Tensor x, double y) => AtLeastScalar.Call(x, y);

    /// <summary>Neither infinite nor NaN, as bool.</summary>
    public static Tensor IsFinite(this Tensor x) => IsFiniteOp.Call(x);

    /// <summary>x += scale * y.</summary>
    public static Tensor Add_(this Tensor x, Tensor y, double scale = 1) =>
        scale == 1 ? AddInPlace.CallInPlace(x, y) : AddInPlace.CallInPlace(x, y, scale);

    /// <summary>x += y.</summary>
    public static Tensor Add_(this Tensor x, double y) => AddScalarInPlace.CallInPlace(x, y);

    /// <summary>x *= y.</summary>
    public static Tensor Multiply_(this Tensor x, Tensor y) => MultiplyInPlace.CallInPlace(x, y);

    /// <summary>x *= y.</summary>
    public static Tensor Multiply_(this Tensor x, double y) => MultiplyScalarInPlace.CallInPlace(x, y);

    /// <summary>x /= y.</summary>
    public static Tensor Divide_(this Tensor x, Tensor y) => DivideInPlace.CallInPlace(x, y);

    /// <summary>x += scale * y * z.</summary>
    public static Tensor AddProduct_(this Tensor x, Tensor y, Tensor z, double scale = 1) => AddProductInPlace.CallInPlace(x, y, z, scale);

    /// <summary>Sets every element to 0.</summary>
    public static Tensor Zero_(this Tensor x) => ZeroInPlace.CallInPlace(x);

    /// <summary>Sets every element to <paramref name="value"/>.</summary>
    public static Tensor Fill_(this Tensor x, double value) => FillInPlace.CallInPlace(x, value);

    /// <summary>Sets x to the values of <paramref name="source"/>, converted and broadcast as needed.</summary>
    public static Tensor CopyFrom_(this Tensor x, Tensor source) => CopyInPlace.CallInPlace(x, source);
}
