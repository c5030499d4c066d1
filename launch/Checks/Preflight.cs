using Moe.Distributed.Nccl;
using Moe.Launch.Commands;
using Moe.Torch;
using Moe.Torch.Native;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using Moe.Training.Planning;

namespace Moe.Launch.Checks;

/// <summary>What must hold before any rank starts, so that a mistake costs a second and one message instead of N log files.</summary>
internal static class Preflight
{
    /// <summary>Reads the configuration and checks it against the mesh and the data.</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">Each <c>key.path=value</c>.</param>
    /// <param name="nodes">At least 1.</param>
    /// <param name="perNode">Ranks of each node, at least 1.</param>
    /// <exception cref="ConfigException">Lists every fault.</exception>
    public static ResolvedConfig Configuration(string path, IReadOnlyList<string> overrides, int nodes, int perNode)
    {
        var resolved = ConfigReader.Read(path, overrides);
        var faults = new List<ConfigFault>();
        try
        {
            ConfigRules.ValidateMesh(resolved, nodes * perNode);
            faults.AddRange(MemoryBudget.Fault(resolved, nodes * perNode, perNode) is { } fault ? [fault] : []);
        }
        catch (ConfigException mesh)
        {
            faults.AddRange(mesh.Faults);
        }

        faults.AddRange(DataCheck.Faults(resolved));
        faults.AddRange(ScheduleCheck.Faults(resolved));
        return faults.Count == 0 ? resolved : throw new ConfigException(faults);
    }

    /// <summary>Refuses a backend that cannot move what lies on the device.</summary>
    /// <param name="requested"><c>auto</c>, <c>mpi</c>, <c>gloo</c> or <c>nccl</c>.</param>
    /// <param name="device">Where the ranks train.</param>
    /// <exception cref="LaunchException">It cannot.</exception>
    public static void DemandDevice(string requested, DeviceName device)
    {
        if (requested == BackendNames.Nccl && device != DeviceName.Cuda)
        {
            throw new LaunchException(
                ExitCodes.Preflight, "--backend nccl moves the memory of GPUs, but parallel.device is cpu", "--set parallel.device=cuda, or --backend auto");
        }
    }

    /// <summary>Chooses the backend and makes sure that what it needs is there.</summary>
    /// <param name="requested"><c>auto</c>, <c>mpi</c>, <c>gloo</c> or <c>nccl</c>.</param>
    /// <param name="device">Where the ranks train.</param>
    /// <param name="worldSize">Number of ranks.</param>
    /// <param name="host">The surroundings; test programs need no native library.</param>
    /// <returns><c>mpi</c>, <c>gloo</c> or <c>nccl</c>.</returns>
    /// <exception cref="LaunchException">Something is missing; it names the command that installs or builds it.</exception>
    public static string Backend(string requested, DeviceName device, int worldSize, LaunchHost host)
    {
        DemandDevice(requested, device);
        var needsLibraries = host.RankProgram.NeedsNativeLibraries;
        if (needsLibraries && NativeFolder.Find("moe_torch") is null)
        {
            throw new LaunchException(ExitCodes.Preflight, "the native library libmoe_torch.so has not been built", "make setup");
        }

        var hasMpirun = Executables.Find("mpirun", host.Variable) is not null;
        var hasMpiLibrary = !needsLibraries || NativeFolder.Find("moe_mpi") is not null;
        switch (requested)
        {
            case BackendNames.Mpi when !hasMpirun:
                throw new LaunchException(ExitCodes.Preflight, "--backend mpi needs mpirun, which is not installed", "make setup, or --backend gloo");
            case BackendNames.Mpi when !hasMpiLibrary:
                throw new LaunchException(ExitCodes.Preflight, "--backend mpi needs the native library libmoe_mpi.so, which has not been built", "make setup, or --backend gloo");
            case BackendNames.Auto when device == DeviceName.Cuda && worldSize > 1:
                return BackendNames.Nccl;
            case BackendNames.Auto:
                return hasMpirun && hasMpiLibrary ? BackendNames.Mpi : BackendNames.Gloo;
            default:
                return requested;
        }
    }

    /// <summary>Makes sure that each rank of this machine has a GPU of its own where it is to train on one, and that NCCL is there where it is to be used.</summary>
    /// <param name="device">Where the ranks train.</param>
    /// <param name="backend">As <see cref="Backend"/> chose.</param>
    /// <param name="ranks">Ranks of this machine.</param>
    /// <param name="worldSize">Ranks of all machines.</param>
    /// <param name="host">The surroundings; test programs need no GPU.</param>
    /// <exception cref="LaunchException">Something is missing.</exception>
    public static void Devices(DeviceName device, string backend, int ranks, int worldSize, LaunchHost host)
    {
        if (device != DeviceName.Cuda || !host.RankProgram.NeedsNativeLibraries)
        {
            return;
        }

        var count = CudaRuntime.DeviceCount;
        if (count < ranks)
        {
            throw new LaunchException(
                ExitCodes.Preflight,
                $"parallel.device is cuda, but for {ranks} rank(s) this machine shows {count} GPU(s)",
                count == 0 ? "nvidia-smi, and docs/gpu.md for the native library with CUDA; or --set parallel.device=cpu" : $"at most {count} rank(s), or --set parallel.device=cpu");
        }

        try
        {
            if (backend == BackendNames.Nccl && worldSize > 1)
            {
                NcclLibrary.Load(host.Variable("MOE_NCCL"));
            }
        }
        catch (NativeLibraryException e)
        {
            throw new LaunchException(ExitCodes.Preflight, e.Message, "MOE_NCCL=PATH, or --backend gloo or mpi, which pass through the host's memory");
        }
    }
}
