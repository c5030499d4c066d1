namespace Moe.Training.Tracking;

/// <summary>Copies a file to where a store keeps its own.</summary>
internal static class ArtifactCopy
{
    /// <summary>Copies by way of a temporary file, so that no reader finds half of it.</summary>
    /// <exception cref="MlflowException">The disk does not take it.</exception>
    public static async Task ToAsync(string path, string file, CancellationToken cancellation)
    {
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            var aside = path + ".tmp";
            using (var from = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete))
            using (var to = new FileStream(aside, FileMode.Create, FileAccess.Write))
            {
                await from.CopyToAsync(to, cancellation).ConfigureAwait(false);
            }

            File.Move(aside, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MlflowException(MlflowFault.Unavailable, $"'{path}' cannot be written: {e.Message}", inner: e);
        }
    }
}
