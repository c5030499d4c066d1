using Moe.Models;
using Moe.Torch;
using Moe.Torch.Kernels;
using Moe.Torch.Native;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class GatedRowsTests(Device device) : KernelTests(device)
{
    [Test]
    public void Activation_and_gradients_equal_the_reference(
        [Values(0, 1, 5, 70)] int rows,
        [Values(1, 7, 16, 64, 300)] int width,
        [ValueSource(typeof(KernelTests), nameof(Types))] DType type,
        [Values] bool weighted)
    {
        var h = Normal(type, rows, 2 * width);
        var w = weighted ? Normal(type == DType.Float64 ? type : DType.Float32, rows) : null;
        var arriving = Normal(type, rows, width);
        var (wideH, wideW) = (Leaf(Wide(h)), w is null ? null : Leaf(Wide(w)));
        var reference = SwiGlu.Reference(wideH);
        reference = wideW is null ? reference : reference * wideW.Unsqueeze(1);
        Autograd.Backward(reference, Wide(arriving));

        MustBeClose(GatedRows.Activate(h, w), reference, "activation");
        var (activation, gradient, weightGradient) = GatedRows.Backward(h, w, arriving);
        MustBeClose(activation, reference, "activation once more");
        MustBeClose(gradient, wideH.Gradient!, "gradient of gate and up");
        Assert.That(weightGradient is null, Is.EqualTo(w is null));
        if (weightGradient is not null)
        {
            var magnitudes = (SwiGlu.Reference(Wide(h)) * Wide(arriving)).Abs().Sum(1);
            MustBeClose(weightGradient, wideW!.Gradient!, "gradient of the weights", type, magnitudes);
        }
    }

    [Test]
    public void Rows_at_odd_addresses_have_the_same_activation_and_gradients(
        [Values(64, 296)] int width, [ValueSource(typeof(KernelTests), nameof(Types))] DType type)
    {
        var (h, w, arriving) = (Normal(type, 9, 2 * width), Normal(type == DType.Float64 ? type : DType.Float32, 9), Normal(type, 9, width));
        var (oddH, oddArriving) = (AtOddAddress(h), AtOddAddress(arriving));
        var expected = GatedRows.Backward(h, w, arriving);
        var actual = GatedRows.Backward(oddH, w, oddArriving);
        MustBeClose(GatedRows.Activate(oddH, w), Wide(GatedRows.Activate(h, w)), "activation");
        MustBeClose(actual.Activation, Wide(expected.Activation), "activation once more");
        MustBeClose(actual.Gradient, Wide(expected.Gradient), "gradient of gate and up");
        MustBeClose(actual.WeightGradient!, Wide(expected.WeightGradient!), "gradient of the weights", type, (GatedRows.Activate(h, null) * arriving).Abs().Sum(1));
    }

    [Test]
    public void What_is_read_or_written_may_not_be_left_out() =>
        Assert.That(
            () => Abi.Check(Abi.SwiGluForward(Normal(DType.Float32, 2, 4).LiveHandle, 0, 0)),
            Throws.TypeOf<TorchException>().With.Message.EqualTo("the activation may not be left out"));

    [Test]
    public void Large_gates_neither_overflow_nor_vanish()
    {
        var h = Tensor.From([-1e4f, -100, -88, 88, 100, 1e4f, 1, 1, 1, 1, 1, 1], 1, 12).To(Place);
        Assert.That(GatedRows.Activate(h, null).ToArray<float>(), Is.EqualTo(new[] { 0, 0, 0, 88, 100, 1e4f }).Within(1e-30));
    }

    [Test]
    public void A_gate_that_is_no_number_stays_none()
    {
        var h = Tensor.From([float.NaN, 1f], 1, 2).To(Place);
        Assert.That(GatedRows.Activate(h, null).Item(), Is.NaN);
    }

    [Test]
    public void Shapes_and_types_that_do_not_fit_are_refused()
    {
        Assert.That(() => GatedRows.Activate(Normal(DType.Float32, 2, 3), null), Throws.TypeOf<TorchException>().With.Message.Contains("[R, 2F]"));
        Assert.That(
            () => GatedRows.Activate(Normal(DType.Float32, 2, 4), Normal(DType.Float32, 3)), Throws.TypeOf<TorchException>().With.Message.Contains("weights"));
        Assert.That(() => GatedRows.Activate(Normal(DType.BFloat16, 2, 4), Normal(DType.BFloat16, 2)), Throws.TypeOf<TorchException>());
    }
}
