using System.Globalization;
using System.Runtime.InteropServices;
using Moe.Torch;

namespace Moe.Distributed.Nccl;

/// <summary>Finds libnccl.so.2: the one that libtorch has brought along, else the system's. NCCL comes with PyTorch; it is nothing that this project builds.</summary>
public static class NcclLibrary
{
    private const string File = "libnccl.so.2";

    private static readonly Lock Gate = new();
    private static nint s_handle;

    /// <summary>As in <c>2.28.3</c>.</summary>
    /// <exception cref="NativeLibraryException">There is no NCCL.</exception>
    public static string Version
    {
        get
        {
            NcclAbi.Check(NcclAbi.GetVersion(out var code));
            return VersionText(code);
        }
    }

    /// <summary>Loads the library; the second time there is nothing to do.</summary>
    /// <param name="named">Path that the user gave; null to search.</param>
    /// <returns>The system's handle.</returns>
    /// <exception cref="NativeLibraryException">It was not found; the message lists where it was looked for.</exception>
    public static nint Load(string? named = null)
    {
        lock (Gate)
        {
            if (s_handle == 0)
            {
                _ = CudaRuntime.DeviceCount; // loads libtorch, and with it the NCCL that it was built with
                var candidates = Candidates(named, MappedLibraries());
                s_handle = candidates.Select(path => NativeLibrary.TryLoad(path, out var handle) ? handle : 0).FirstOrDefault(handle => handle != 0);
                if (s_handle == 0)
                {
                    throw new NativeLibraryException(
                        $"{File} was not found; looked for {string.Join(", ", candidates)}. PyTorch with CUDA brings it along (pip install nvidia-nccl-cu13, or cu12); "
                        + "MOE_NCCL=PATH names another place");
                }
            }

            return s_handle;
        }
    }

    /// <summary>Where the library may be, in the order of the search.</summary>
    /// <param name="named">Path that the user gave: then nothing else is tried.</param>
    /// <param name="mapped">Files that this process has loaded.</param>
    internal static IReadOnlyList<string> Candidates(string? named, IReadOnlyList<string> mapped)
    {
        if (named is not null)
        {
            return [named];
        }

        // A second NCCL beside the one that libtorch uses would have its own state.
        var loaded = mapped.Where(path => Path.GetFileName(path).StartsWith("libnccl.so", StringComparison.Ordinal));
        var besideTorch = mapped
            .Where(path => Path.GetFileName(path).StartsWith("libtorch_cuda", StringComparison.Ordinal))
            .Select(path => Path.GetDirectoryName(path)!)
            .SelectMany(folder => new[]
            {
                Path.Combine(folder, File),
                Path.GetFullPath(Path.Combine(folder, "..", "..", "nvidia", "nccl", "lib", File)), // site-packages/torch/lib
            });
        return [.. loaded.Concat([File]).Concat(besideTorch).Distinct()];
    }

    internal static string VersionText(int code) =>
        string.Create(CultureInfo.InvariantCulture, $"{code / 10000}.{code % 10000 / 100}.{code % 100}");

    // "address permissions offset device inode   path"
    internal static IReadOnlyList<string> PathsOf(IEnumerable<string> maps) =>
        [.. maps.Select(line => line.IndexOf('/', StringComparison.Ordinal) is >= 0 and var start ? line[start..] : "").Where(path => path.Length > 0).Distinct()];

    private static IReadOnlyList<string> MappedLibraries() => PathsOf(System.IO.File.ReadLines("/proc/self/maps"));
}
