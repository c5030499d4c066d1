namespace Moe.Torch;

/// <summary>libtorch, or the shim over it, refused a call; the message is its own.</summary>
public class TorchException(string message) : Exception(message);

/// <summary>The native library is absent, or was built from other sources than this assembly.</summary>
public sealed class NativeLibraryException(string message) : TorchException(message);
