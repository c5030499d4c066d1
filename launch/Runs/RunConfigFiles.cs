using System.Text;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Launch.Runs;

/// <summary>
/// The files of a run folder that say its configuration. They belong to what was trained last: sampling and evaluation read them together with the
/// checkpoints, and a run is continued from them. So an attempt whose ranks never begin puts back what was there.
/// </summary>
internal sealed class RunConfigFiles
{
    private readonly (string Path, byte[] Bytes)[] _earlier;

    private RunConfigFiles((string Path, byte[] Bytes)[] earlier) => _earlier = earlier;

    /// <summary>Writes a configuration in the place of the one that may be there.</summary>
    /// <param name="folder">Held by this launcher.</param>
    /// <param name="resolved">Checked.</param>
    /// <exception cref="IOException">A file cannot be written; each is as it was, or whole.</exception>
    public static RunConfigFiles Write(RunFolder folder, ResolvedConfig resolved)
    {
        string[] paths = [folder.ConfigFile, folder.ConfigOriginFile, folder.ScheduleFile];
        var files = new RunConfigFiles([.. paths.Where(File.Exists).Select(path => (path, File.ReadAllBytes(path)))]);
        try
        {
            Durable.WriteAllBytes(folder.ConfigFile, Encoding.UTF8.GetBytes(ConfigYaml.Write(WithOwnSchedule(resolved.Config, folder))));
            Durable.WriteAllBytes(folder.ConfigOriginFile, Encoding.UTF8.GetBytes(ConfigYaml.ToOriginJson(resolved)));
        }
        catch
        {
            files.TryRestore();
            throw;
        }

        return files;
    }

    /// <summary>Puts back what was there; where nothing was, what was written stays.</summary>
    public void TryRestore()
    {
        try
        {
            foreach (var (path, bytes) in _earlier.Where(file => File.Exists(file.Path))) // else somebody deleted the folder, and it must not come back
            {
                Durable.WriteAllBytes(path, bytes);
            }
        }
        catch (Exception e) when (DiskFault.IsOne(e))
        {
            // Why the attempt failed is told elsewhere; it matters more.
        }
    }

    // A run folder holds all that its learning rate follows from: it can be moved, and continued when the original is gone.
    private static RunConfig WithOwnSchedule(RunConfig config, RunFolder folder)
    {
        if (config.Schedule is not { Name: ScheduleName.Refined, File: { } original })
        {
            return config;
        }

        if (Path.GetFullPath(original) != Path.GetFullPath(folder.ScheduleFile))
        {
            Durable.WriteAllBytes(folder.ScheduleFile, File.ReadAllBytes(original));
        }

        return config with { Schedule = config.Schedule with { File = Path.GetFileName(folder.ScheduleFile) } };
    }
}
