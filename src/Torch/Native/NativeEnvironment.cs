using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

/// <summary>The environment as native libraries see it, who read it when they are loaded; .NET keeps a copy of its own, whose changes they don't see.</summary>
public static partial class NativeEnvironment
{
    /// <summary>Sets a variable that is not set yet. Before the library that reads it is loaded, and any thread could read the environment.</summary>
    /// <param name="name">Of the variable.</param>
    /// <param name="value">What it is set to.</param>
    public static void SetDefault(string name, string value) => _ = SetVariable(name, value, replace: 0);

    [LibraryImport("libc", EntryPoint = "setenv", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetVariable(string name, string value, int replace);
}
