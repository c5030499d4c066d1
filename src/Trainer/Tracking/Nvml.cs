using System.Runtime.InteropServices;

namespace Moe.Training.Tracking;

/// <summary>The load of one GPU.</summary>
/// <param name="MemoryUsed">Bytes.</param>
/// <param name="MemoryTotal">Bytes.</param>
/// <param name="Utilization">Share of the time in which a kernel ran, in percent; NaN where the device does not say.</param>
/// <param name="Power">Watts; NaN where the device does not say.</param>
/// <param name="PowerLimit">Watts; NaN where the device does not say.</param>
internal readonly record struct GpuLoad(double MemoryUsed, double MemoryTotal, double Utilization, double Power, double PowerLimit);

/// <summary>NVIDIA's management library, as far as the load of the machine's GPUs goes; used where it is installed, with no GPU code of ours.</summary>
internal sealed unsafe class Nvml : IDisposable
{
    private const string Library = "libnvidia-ml.so.1";
    private const int Success = 0;
    private const double Milli = 1e-3;

    private readonly nint _library;
    private readonly nint[] _devices;
    private readonly delegate* unmanaged<int> _shutdown;
    private readonly delegate* unmanaged<nint, MemoryInfo*, int> _memory;
    private readonly delegate* unmanaged<nint, Rates*, int> _utilization;
    private readonly delegate* unmanaged<nint, uint*, int> _power;
    private readonly delegate* unmanaged<nint, uint*, int> _powerLimit;

    private Nvml(nint library)
    {
        _library = library;
        _shutdown = (delegate* unmanaged<int>)Export("nvmlShutdown");
        _memory = (delegate* unmanaged<nint, MemoryInfo*, int>)Export("nvmlDeviceGetMemoryInfo");
        _utilization = (delegate* unmanaged<nint, Rates*, int>)Export("nvmlDeviceGetUtilizationRates");
        _power = (delegate* unmanaged<nint, uint*, int>)Export("nvmlDeviceGetPowerUsage");
        _powerLimit = (delegate* unmanaged<nint, uint*, int>)Export("nvmlDeviceGetEnforcedPowerLimit");
        var initialize = (delegate* unmanaged<int>)Export("nvmlInit_v2");
        var count = (delegate* unmanaged<uint*, int>)Export("nvmlDeviceGetCount_v2");
        var handle = (delegate* unmanaged<uint, nint*, int>)Export("nvmlDeviceGetHandleByIndex_v2");
        uint devices = 0;
        if (initialize() != Success || count(&devices) != Success)
        {
            devices = 0; // a library without a driver
        }

        _devices = new nint[devices];
        for (var i = 0u; i < devices; i++)
        {
            nint device = 0;
            _devices[i] = handle(i, &device) == Success ? device : 0;
        }
    }

    /// <summary>Loads the library; null where there is none.</summary>
    /// <param name="path">The library, by a name that the loader searches or by a path.</param>
    public static Nvml? TryLoad(string path = Library)
    {
        if (!NativeLibrary.TryLoad(path, out var library))
        {
            return null;
        }

        try
        {
            return new Nvml(library);
        }
        catch (EntryPointNotFoundException) // older than any driver that this could meet
        {
            NativeLibrary.Free(library);
            return null;
        }
    }

    /// <summary>The load of each GPU, by its number; those that do not answer are left out.</summary>
    public IEnumerable<(int Index, GpuLoad Load)> Read()
    {
        for (var i = 0; i < _devices.Length; i++)
        {
            if (Read(_devices[i]) is { } load)
            {
                yield return (i, load);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ = _shutdown();
        NativeLibrary.Free(_library);
    }

    private GpuLoad? Read(nint device)
    {
        MemoryInfo memory = default;
        Rates rates = default;
        uint power = 0, limit = 0;
        if (device == 0 || _memory(device, &memory) != Success)
        {
            return null;
        }

        return new GpuLoad(
            memory.Used,
            memory.Total,
            _utilization(device, &rates) == Success ? rates.Gpu : double.NaN,
            _power(device, &power) == Success ? power * Milli : double.NaN,
            _powerLimit(device, &limit) == Success ? limit * Milli : double.NaN);
    }

    private nint Export(string name) => NativeLibrary.GetExport(_library, name);

    /// <summary>nvmlMemory_t, in bytes.</summary>
    private struct MemoryInfo
    {
        public ulong Total;
        public ulong Free;
        public ulong Used;
    }

    /// <summary>nvmlUtilization_t, in percent.</summary>
    private struct Rates
    {
        public uint Gpu;
        public uint Memory;
    }
}
