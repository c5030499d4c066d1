using Moe.Distributed;
using Moe.Torch;

namespace Moe.Launch.Checks;

/// <summary>Calls of native libraries that may be missing or broken.</summary>
internal static class Native
{
    /// <summary>What the call finds; where the library fails, its message and how to build it.</summary>
    public static Finding Try(string what, Func<Finding> find)
    {
        try
        {
            return find();
        }
        catch (Exception e) when (e is TorchException or DllNotFoundException or EntryPointNotFoundException or TypeInitializationException or CommunicationException or NativeLibraryException)
        {
            return new Finding(Verdict.Fails, $"{what}: {(e.InnerException ?? e).Message.Split('\n')[0]}", "make setup");
        }
    }
}
