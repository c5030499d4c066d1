using Moe.Torch;
using Moe.Torch.Kernels;
using Moe.Torch.Native;
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
    public void A_call_that_was_refused_leaves_nothing_for_the_next_kernel_to_find()
    {
        if (!device.IsCuda)
        {
            Assert.Ignore("calls of a GPU's runtime");
        }

        using var scope = new TensorScope();
        Abi.Check(Abi.CudaEventCreate(out var begin));
        Abi.Check(Abi.CudaEventCreate(out var end));
        Assert.That(() => Abi.Check(Abi.CudaEventElapsed(begin, end, out _)), Throws.TypeOf<TorchException>(), "neither was recorded");
        Assert.That(GatedRows.Activate(Tensor.Zeros([2, 8], device: device), null).ToArray<float>(), Is.All.Zero);
        Abi.Check(Abi.CudaEventFree(begin));
        Abi.Check(Abi.CudaEventFree(end));
    }

    [Test]
    public void Free_memory_is_that_of_the_device_that_was_asked_for()
    {
        if (!device.IsCuda || CudaRuntime.DeviceCount < 2)
        {
            Assert.Ignore("one device is always meant");
        }

        const long bytes = 4L << 30;
        using var scope = new TensorScope();
        var before = CudaRuntime.Memory(Device.Cuda(1)).Free;
        Tensor.Empty([bytes / 4], DType.Float32, device);
        Assert.That(CudaRuntime.Memory(Device.Cuda(1)).Free, Is.EqualTo(before).Within(bytes / 2));
    }

    [Test]
    public void A_device_that_is_not_there_is_refused()
    {
        using var scope = new TensorScope();
        Assert.That(() => Tensor.Zeros([1], device: Device.Cuda(CudaRuntime.DeviceCount)), Throws.TypeOf<TorchException>());
    }
}
