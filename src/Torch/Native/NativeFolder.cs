using System.Reflection;
using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

/// <summary>Finds the project's native libraries: beside the program where it was published, else in the repository's native/build.</summary>
public static class NativeFolder
{
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
}
