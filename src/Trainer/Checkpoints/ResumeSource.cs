using System.Text;
using Moe.Distributed;

namespace Moe.Training.Checkpoints;

/// <summary>The checkpoint that a run continues from, chosen and verified by rank 0 for all.</summary>
public sealed class ResumeSource : IDisposable
{
    private ResumeSource(string folder)
    {
        Folder = folder;
        Checkpoint = new CheckpointReader(folder);
    }

    /// <summary>The checkpoint's folder.</summary>
    public string Folder { get; }

    /// <summary>Its content.</summary>
    public CheckpointReader Checkpoint { get; }

    /// <summary>Finds where to continue. Every rank calls this.</summary>
    /// <param name="resume"><c>auto</c>: the run's newest whole checkpoint, or none; <c>none</c>; or a path to a checkpoint, a run or its checkpoints.</param>
    /// <param name="own">The run's own checkpoints.</param>
    /// <param name="world">All ranks.</param>
    /// <param name="warn">Told of checkpoints that are passed over, on another thread.</param>
    /// <returns>Null for a fresh start.</returns>
    /// <exception cref="CheckpointException">On every rank: the checkpoint asked for is not whole, or of those there are none is.</exception>
    public static ResumeSource? Choose(string resume, CheckpointFolder own, ProcessGroup world, Action<string> warn)
    {
        // "ok:" and the folder, or "no:" and why: rank 0 reads and hashes the files once, and the others follow it.
        var answer = world.GatherAfter(() => world.Rank == 0 ? Encoding.UTF8.GetBytes(Answer(resume, own, warn)) : [])[0];
        var text = Encoding.UTF8.GetString(answer);
        return text.StartsWith("no:", StringComparison.Ordinal)
            ? throw new CheckpointException(text[3..])
            : text.Length == 3 ? null : new ResumeSource(text[3..]);
    }

    /// <summary>The newest whole checkpoint behind a path that a user gave.</summary>
    /// <param name="path">A checkpoint, a run, or a run's folder of checkpoints.</param>
    /// <param name="warn">Told of checkpoints that are passed over.</param>
    /// <exception cref="CheckpointException">There is none.</exception>
    public static string Find(string path, Action<string> warn)
    {
        if (IsCheckpoint(path))
        {
            CheckpointFolder.Verify(path);
            return path;
        }

        return new CheckpointFolder(Within(path)).NewestVerified(warn)
            ?? throw new CheckpointException($"'{path}' holds no checkpoint; give a folder step_NNNNNNNN, a run folder, or its checkpoints folder");
    }

    /// <summary>Where a run that goes on from there would stand, by manifests alone: tensors are verified by the ranks, which may take an older checkpoint.</summary>
    /// <param name="path">As for <see cref="Find"/>.</param>
    /// <returns>Null where there is no checkpoint whose manifest can be read.</returns>
    public static RunPosition? Foresee(string path)
    {
        var folder = new CheckpointFolder(Within(path));
        foreach (var checkpoint in IsCheckpoint(path) ? [path] : folder.Steps().Select(folder.Of))
        {
            try
            {
                return CheckpointManifest.Read(checkpoint).Position;
            }
            catch (CheckpointException)
            {
                // The ranks pass it over too, or refuse it by its name.
            }
        }

        return null;
    }

    /// <inheritdoc/>
    public void Dispose() => Checkpoint.Dispose();

    private static bool IsCheckpoint(string path) => File.Exists(Path.Combine(path, CheckpointManifest.FileName));

    // Of a run, or of its checkpoints.
    private static string Within(string path)
    {
        var folder = Path.Combine(path, "checkpoints");
        return Directory.Exists(folder) ? folder : path;
    }

    private static string Answer(string resume, CheckpointFolder own, Action<string> warn)
    {
        try
        {
            return "ok:" + resume switch
            {
                "none" => "",
                "auto" => own.NewestVerified(warn) ?? "",
                _ => Find(resume, warn),
            };
        }
        catch (CheckpointException e)
        {
            return "no:" + e.Message;
        }
    }
}
