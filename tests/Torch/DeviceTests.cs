using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class DeviceTests(Device device)
{
    [Test]
    public void Values_survive_the_way_to_the_device_and_back()
    {
        using var scope = new TensorScope();
        float[] values = [.. Enumerable.Range(0, 1000).Select(i => i * 0.25f)];
        var there = Tensor.From(values).To(device);
        Assert.Multiple(() =>
        {
            Assert.That(there.Device, Is.EqualTo(device));
            Assert.That(there.ToArray<float>(), Is.EqualTo(values));
            Assert.That(there.Sum().Item(), Is.EqualTo(999 * 500 * 0.25));
        });
    }

    [Test]
    public void New_tensors_stand_where_their_model_stands()
    {
        using var scope = new TensorScope();
        var model = Tensor.Zeros([2, 3], DType.Float64, device);
        Assert.Multiple(() =>
        {
            Assert.That(model.NewZeros([4]).Device, Is.EqualTo(device));
            Assert.That(model.NewZeros([4]).DType, Is.EqualTo(DType.Float64));
            Assert.That(model.NewEmpty([0], DType.Int64).Shape, Is.EqualTo(new long[] { 0 }));
        });
    }

    [Test]
    public void The_host_sees_only_its_own_memory()
    {
        using var scope = new TensorScope();
        var there = Tensor.Ones([3], device: device);
        if (device.IsCuda)
        {
            Assert.That(() => there.Span<float>().Length, Throws.InvalidOperationException.With.Message.Contains("cuda:0"));
        }
        else
        {
            Assert.That(there.Span<float>().Length, Is.EqualTo(3));
        }
    }

    [Test]
    public void A_device_that_is_not_there_is_refused()
    {
        using var scope = new TensorScope();
        Assert.That(() => Tensor.Zeros([1], device: Device.Cuda(CudaRuntime.DeviceCount)), Throws.TypeOf<TorchException>());
    }
}
