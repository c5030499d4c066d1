namespace Moe.Torch;

/// <summary>A safetensors file is damaged, breaks a rule of the format, or lacks what was asked of it.</summary>
public sealed class SafeTensorsException : Exception
{
    // A damaged header can hold names of many megabytes; this much tells which tensor is meant.
    private const int NameLimit = 200;

    internal SafeTensorsException(string path, string? tensor, string fault, Exception? inner = null)
        : base(tensor is null ? $"{path}: {fault}" : $"{path}: tensor '{Shorten(tensor)}': {fault}", inner)
    {
        Path = path;
        Tensor = tensor;
    }

    /// <summary>The file, as it was given to <see cref="SafeTensorsFile.Open"/>.</summary>
    public string Path { get; }

    /// <summary>Key of the tensor at fault; null where the whole file is.</summary>
    public string? Tensor { get; }

    internal static string Shorten(string name) => name.Length <= NameLimit ? name : $"{name[..NameLimit]}... ({name.Length} characters)";
}
