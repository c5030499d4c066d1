using Moe.Torch;

namespace Moe.Training.Verification;

/// <summary>How far a quantity of the mesh lies from that of one process.</summary>
/// <param name="What">The quantity: a loss, a norm, or a logical parameter's key.</param>
/// <param name="Relative">Largest difference over the reference's largest entry; NaN where either side is not finite.</param>
internal sealed record Difference(string What, double Relative)
{
    /// <summary>For ordering: what is not finite is worst.</summary>
    public double Order => double.IsNaN(Relative) ? double.PositiveInfinity : Relative;

    public static Difference Of(string what, double value, double reference) =>
        new(what, value == reference ? 0 : Math.Abs(value - reference) / Math.Abs(reference));

    public static Difference Of(string what, Tensor value, Tensor reference)
    {
        using var scope = new TensorScope();
        var exact = reference.To(DType.Float64);
        var largest = exact.Abs().Max().Item();
        var apart = (value.To(DType.Float64) - exact).Abs().Max().Item();
        return new Difference(what, apart == 0 ? 0 : apart / largest);
    }
}
