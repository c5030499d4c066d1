using System.Runtime.CompilerServices;
using Moe.Torch.Native;

[assembly: DisableRuntimeMarshalling]

namespace Moe.Distributed;

/// <summary>Lets this assembly import from the native libraries of the project.</summary>
internal static class CommunicationLibraries
{
    static CommunicationLibraries() => NativeFolder.ResolveFor(typeof(CommunicationLibraries).Assembly);

    /// <summary>Has its effect once, however often it is called; a resolver can be set only once an assembly.</summary>
    public static void Resolve()
    {
    }
}
