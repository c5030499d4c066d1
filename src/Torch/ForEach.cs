namespace Moe.Torch;

/// <summary>Operators over a list of tensors in one native call: what an optimizer or a reduction does to every parameter.</summary>
public static class ForEach
{
    private static readonly Operator AddLists = new("aten::_foreach_add_", "List");
    private static readonly Operator AddScalarLists = new("aten::_foreach_add_", "Scalar");
    private static readonly Operator MultiplyScalar = new("aten::_foreach_mul_", "Scalar");
    private static readonly Operator MultiplyLists = new("aten::_foreach_mul_", "List");
    private static readonly Operator DivideScalar = new("aten::_foreach_div_", "Scalar");
    private static readonly Operator AddProduct = new("aten::_foreach_addcmul_", "Scalar");
    private static readonly Operator AddQuotient = new("aten::_foreach_addcdiv_", "Scalar");
    private static readonly Operator ZeroLists = new("aten::_foreach_zero_");
    private static readonly Operator SqrtLists = new("aten::_foreach_sqrt");
    private static readonly Operator NormLists = new("aten::_foreach_norm", "Scalar");

    /// <summary>x[i] += scale * y[i].</summary>
    public static void Add_(Tensor[] x, Tensor[] y, double scale = 1) => AddLists.CallForEffect(x, y, scale);

    /// <summary>x[i] += y.</summary>
    public static void Add_(Tensor[] x, double y) => AddScalarLists.CallForEffect(x, y);

    /// <summary>x[i] *= y.</summary>
    public static void Multiply_(Tensor[] x, double y) => MultiplyScalar.CallForEffect(x, y);

    /// <summary>x[i] *= y[i].</summary>
    public static void Multiply_(Tensor[] x, Tensor[] y) => MultiplyLists.CallForEffect(x, y);

    /// <summary>x[i] /= y.</summary>
    public static void Divide_(Tensor[] x, double y) => DivideScalar.CallForEffect(x, y);

    /// <summary>x[i] += scale * y[i] * z[i].</summary>
    public static void AddProduct_(Tensor[] x, Tensor[] y, Tensor[] z, double scale = 1) => AddProduct.CallForEffect(x, y, z, scale);

    /// <summary>x[i] += scale * y[i] / z[i].</summary>
    public static void AddQuotient_(Tensor[] x, Tensor[] y, Tensor[] z, double scale = 1) => AddQuotient.CallForEffect(x, y, z, scale);

    /// <summary>x[i] = 0.</summary>
    public static void Zero_(Tensor[] x) => ZeroLists.CallForEffect([x]);

    /// <summary>Square roots.</summary>
    public static Tensor[] Sqrt(Tensor[] x) => SqrtLists.CallMany(x.Length, [x]);

    /// <summary>Euclidean norms, a scalar a tensor.</summary>
    public static Tensor[] Norm(Tensor[] x) => NormLists.CallMany(x.Length, [x]);
}
