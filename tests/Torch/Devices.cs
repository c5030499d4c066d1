using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

/// <summary>The devices that tests of kernels run on: <c>[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]</c> over a fixture with a <see cref="Device"/>.</summary>
internal static class Devices
{
    /// <summary>The category of what needs a GPU.</summary>
    public const string Cuda = "Cuda";

    private const string NoDevice = "there is no CUDA device here: not run";

    /// <summary>The host, and the first GPU: where there is none, its tests are told as not run.</summary>
    public static IEnumerable<TestFixtureData> Fixtures =>
    [
        new TestFixtureData(Device.Cpu).SetArgDisplayNames("cpu"),
        OnGpu(new TestFixtureData(Device.Cuda(0)).SetArgDisplayNames("cuda")),
    ];

    /// <summary>Tells a test as not run where there is no GPU.</summary>
    public static void DemandCuda()
    {
        if (CudaRuntime.DeviceCount == 0)
        {
            Assert.Ignore(NoDevice);
        }
    }

    private static TestFixtureData OnGpu(TestFixtureData fixture)
    {
        fixture.Properties.Add("Category", Cuda);
        return CudaRuntime.DeviceCount > 0 ? fixture : fixture.Ignore(NoDevice);
    }
}
