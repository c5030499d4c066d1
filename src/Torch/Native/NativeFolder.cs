using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace Moe.Torch.Native;

/// <summary>Finds the project's native libraries, beside the program where it was published, else in the repository's native/build, and readies what they load.</summary>
public static class NativeFolder
{
    private const int AbiVersion = 12; // kMoeAbi of native/abi.h

    static NativeFolder()
    {
        // libtorch may bring OpenBLAS, which takes its slowest kernels where it doesn't know the processor, one younger than itself: 61 GFLOP/s a core in float32 on an
        // Emerald Rapids, 250 by the kernels named here, as by Cooperlake's. Which ones it knows can't be told before it is loaded, when it reads this once: so
        // they are named to it wherever there is AVX-512.
        if (Avx512BW.VL.IsSupported && Avx512DQ.VL.IsSupported)
        {
            NativeEnvironment.SetDefault("OPENBLAS_CORETYPE", "SkylakeX");
        }
    }

    /// <summary>Lets <paramref name="assembly"/> import from the libraries of this project by their bare names, such as <c>moe_torch</c>.</summary>
    public static void ResolveFor(Assembly assembly) => NativeLibrary.SetDllImportResolver(
        assembly,
        (name, _, _) => name.StartsWith("moe_", StringComparison.Ordinal) ? NativeLibrary.Load(Require(name)) : 0);

    /// <summary>Path of a library of this project, or null where it was not built.</summary>
    /// <param name="name">Without prefix and ending: <c>moe_torch</c>.</param>
    public static string? Find(string name)
    {
        var file = $"lib{name}.so";
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            foreach (var candidate in new[] { Path.Combine(folder.FullName, file), Path.Combine(folder.FullName, "native", "build", file) })
            {
                if (File.Exists(candidate))
                {
                    return candidate;
                }
            }
        }

        return null;
    }

    /// <summary>Path of a library of this project.</summary>
    /// <exception cref="NativeLibraryException">It was not built.</exception>
    public static string Require(string name) => Find(name) ?? throw new NativeLibraryException(
        $"the native library lib{name}.so is neither beside the program ({AppContext.BaseDirectory}) nor in native/build; `make setup` builds it");

    /// <summary>Demands that a library of this project was built from the sources that this program was built beside.</summary>
    /// <param name="name">Without prefix and ending: <c>moe_torch</c>.</param>
    /// <param name="built">The version of its exports that it names.</param>
    /// <exception cref="NativeLibraryException">It is another one.</exception>
    public static void CheckAbi(string name, int built)
    {
        if (built != AbiVersion)
        {
            throw new NativeLibraryException($"lib{name}.so has ABI {built}, this program needs {AbiVersion}; `make setup` builds the matching one");
        }
    }
}
