using Moe.Torch;

namespace Moe.Training.Checkpoints;

/// <summary>An opened checkpoint: any rank of any mesh reads the logical tensors that it holds.</summary>
public sealed class CheckpointReader : IDisposable
{
    private readonly Dictionary<string, SafeTensorsFile> _files = new(StringComparer.Ordinal);
    private readonly string _folder;

    /// <param name="folder">One checkpoint's folder, whose files were verified before (<see cref="CheckpointFolder.Verify"/>).</param>
    /// <exception cref="CheckpointException">Its manifest cannot be read.</exception>
    public CheckpointReader(string folder)
    {
        _folder = folder;
        Manifest = CheckpointManifest.Read(folder);
    }

    /// <summary>What it holds.</summary>
    public CheckpointManifest Manifest { get; }

    /// <summary>Fills the state of this rank.</summary>
    /// <param name="state">Every tensor to fill; whether this rank writes it does not matter here.</param>
    /// <exception cref="CheckpointException">A tensor is missing or has another shape.</exception>
    public void Load(IEnumerable<StateTensor> state)
    {
        using var mode = Autograd.NoGrad();
        using var views = new TensorScope();
        foreach (var (key, value, _) in state)
        {
            using var scope = new TensorScope();
            value.CopyFrom_(Read(key, value.Shape));
        }
    }

    /// <summary>One logical tensor.</summary>
    /// <param name="key">Its key.</param>
    /// <param name="shape">The shape that the model has for it.</param>
    /// <exception cref="CheckpointException">It is missing or has another shape.</exception>
    public Tensor Read(string key, ReadOnlySpan<long> shape)
    {
        if (!Manifest.Tensors.TryGetValue(key, out var entry))
        {
            throw new CheckpointException($"checkpoint '{_folder}' has no tensor '{key}'; it was written by a run with another model or optimizer");
        }

        if (!shape.SequenceEqual(entry.Shape))
        {
            throw new CheckpointException(
                $"'{key}' has shape [{string.Join(", ", entry.Shape)}] in checkpoint '{_folder}', but the model needs [{string.Join(", ", shape.ToArray())}]");
        }

        try
        {
            if (!_files.TryGetValue(entry.File, out var file))
            {
                file = SafeTensorsFile.Open(Path.Combine(_folder, entry.File));
                _files.Add(entry.File, file);
            }

            return file.Load(key);
        }
        catch (Exception e) when (e is SafeTensorsException or IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"checkpoint '{_folder}': {e.Message}", e);
        }
    }

    /// <summary>Closes its files.</summary>
    public void Dispose()
    {
        foreach (var file in _files.Values)
        {
            file.Dispose();
        }
    }
}
