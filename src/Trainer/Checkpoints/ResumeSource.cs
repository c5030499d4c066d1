using System.Text;
using Moe.Distributed;
using Moe.Training.Configuration;

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
    /// <param name="warn">Told of checkpoints that are passed over.</param>
    /// <returns>Null for a fresh start.</returns>
    /// <exception cref="CheckpointException">On every rank: the checkpoint asked for is not whole, or of those there are none is.</exception>
    public static ResumeSource? Choose(string resume, CheckpointFolder own, ProcessGroup world, Action<string> warn)
    {
        // "ok:" and the folder, or "no:" and why: rank 0 reads and hashes the files once, and the others follow it.
        var answer = world.GatherBytes(world.Rank == 0 ? Encoding.UTF8.GetBytes(Answer(resume, own, warn)) : [])[0];
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
        if (File.Exists(Path.Combine(path, CheckpointManifest.FileName)))
        {
            CheckpointFolder.Verify(path);
            return path;
        }

        var folder = Path.Combine(path, "checkpoints");
        return new CheckpointFolder(Directory.Exists(folder) ? folder : path).NewestVerified(warn)
            ?? throw new CheckpointException($"'{path}' holds no checkpoint; give a folder step_NNNNNNNN, a run folder, or its checkpoints folder");
    }

    /// <summary>The configuration for going on with as many sequences a step as before, on another number of ranks.</summary>
    /// <param name="config">As read.</param>
    /// <param name="ranks">Ranks of this run.</param>
    /// <param name="warn">Told where accumulation changes.</param>
    /// <exception cref="CheckpointException">No accumulation makes the same global batch.</exception>
    public RunConfig Adapt(RunConfig config, int ranks, Action<string> warn)
    {
        var before = Checkpoint.Manifest.Position.GlobalBatch;
        var train = config.Train;
        var perMicroStep = (long)ranks * train.MicroBatch;
        if (perMicroStep * train.Accumulation == before || !train.KeepGlobalBatch)
        {
            return config;
        }

        if (before % perMicroStep != 0)
        {
            throw new CheckpointException(
                $"the checkpoint was trained with {before} sequences a step; {ranks} ranks of train.micro_batch={train.MicroBatch} make {perMicroStep} a micro-step, "
                + $"which does not divide it: choose train.micro_batch so that ranks x micro_batch divides {before}, or set train.keep_global_batch=false");
        }

        var accumulation = checked((int)(before / perMicroStep));
        warn($"train.accumulation is {accumulation} instead of {train.Accumulation}, so that a step has {before} sequences as before (train.keep_global_batch)");

        // A single micro-step was balanced by the counts of the whole batch; only exact counts are those when it is several.
        var balance = train.Accumulation == 1 ? config.Balance with { Accumulation = BalanceAccumulation.Exact } : config.Balance;
        return config with { Train = train with { Accumulation = accumulation }, Balance = balance };
    }

    /// <inheritdoc/>
    public void Dispose() => Checkpoint.Dispose();

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
