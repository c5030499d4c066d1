using Moe.Launch.Commands;
using Moe.Torch.Native;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Launch.Checks;

/// <summary>What must hold before any rank starts, so that a mistake costs a second and one message instead of N log files.</summary>
internal static class Preflight
{
    /// <summary>Reads the configuration and checks it against the mesh and the data.</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">Each <c>key.path=value</c>.</param>
    /// <param name="worldSize">Number of ranks.</param>
    /// <exception cref="ConfigException">Lists every fault.</exception>
    public static ResolvedConfig Configuration(string path, IReadOnlyList<string> overrides, int worldSize)
    {
        var resolved = ConfigReader.Read(path, overrides);
        var faults = new List<ConfigFault>();
        try
        {
            ConfigRules.ValidateMesh(resolved, worldSize);
        }
        catch (ConfigException mesh)
        {
            faults.AddRange(mesh.Faults);
        }

        faults.AddRange(DataCheck.Faults(resolved));
        faults.AddRange(ScheduleCheck.Faults(resolved));
        return faults.Count == 0 ? resolved : throw new ConfigException(faults);
    }

    /// <summary>Chooses the backend and makes sure that what it needs is there.</summary>
    /// <param name="requested"><c>auto</c>, <c>mpi</c> or <c>gloo</c>.</param>
    /// <param name="host">The surroundings; test programs need no native library.</param>
    /// <returns><c>mpi</c> or <c>gloo</c>.</returns>
    /// <exception cref="LaunchException">Something is missing; it names the command that installs or builds it.</exception>
    public static string Backend(string requested, LaunchHost host)
    {
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
            case BackendNames.Auto:
                return hasMpirun && hasMpiLibrary ? BackendNames.Mpi : BackendNames.Gloo;
            default:
                return requested;
        }
    }
}
