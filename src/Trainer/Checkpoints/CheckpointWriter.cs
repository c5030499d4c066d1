using System.Text.Json;
using Moe.Distributed;
using Moe.Torch;
using Moe.Training.Hosting;

namespace Moe.Training.Checkpoints;

/// <summary>Writes checkpoints: every rank its share as a safetensors file, then rank 0 the manifest, and then the final name.</summary>
/// <param name="folder">Seen by all ranks.</param>
/// <param name="mesh">All ranks of <see cref="DeviceMesh.World"/> write together.</param>
/// <param name="keep">Newest checkpoints that stay; 0 for all.</param>
/// <param name="device">Where this rank's state is.</param>
public sealed class CheckpointWriter(CheckpointFolder folder, DeviceMesh mesh, int keep, Device device = default)
{
    /// <summary>Saves one checkpoint. Every rank calls this at the same step.</summary>
    /// <param name="position">Where the run stands; the same on every rank.</param>
    /// <param name="state">All state that this rank holds.</param>
    /// <returns>The checkpoint's folder.</returns>
    /// <exception cref="TrainingException">A rank could not write; on every rank alike. Earlier checkpoints are untouched.</exception>
    public string Save(RunPosition position, IEnumerable<StateTensor> state)
    {
        mesh.World.Trace.Phase = "checkpoint";
        var step = position.Step;
        Together(step, "prepare the folder", () => mesh.World.Rank == 0 ? Run(() => folder.Begin(step)) : null);
        var shards = WriteShards(step, state);
        ThrowIfFailed(step, "write its shard", [.. shards.Select(shard => shard.Error)]);
        Together(step, "complete it", () => mesh.World.Rank == 0 ? Run(() => Complete(position, shards)) : null);
        return folder.Of(step);
    }

    private static string? Run(Action write)
    {
        try
        {
            write();
            return null;
        }
        catch (Exception e) when (DiskFault.IsOne(e))
        {
            return e.Message;
        }
    }

    private RankShard WriteShard(long step, IEnumerable<StateTensor> state)
    {
        var file = $"shard_{mesh.World.Rank:D5}.safetensors";
        var tensors = new SortedDictionary<string, CheckpointTensor>(StringComparer.Ordinal);
        CheckpointFile? content = null;
        var error = Run(() =>
        {
            using var scope = new TensorScope();
            var mine = state.Where(tensor => tensor.Written).Select(tensor => (tensor.Key, tensor.Value)).ToList();
            var path = Path.Combine(folder.PartialOf(step), file);
            var sha256 = SafeTensorsWriter.Write(path, mine);
            content = new CheckpointFile(new FileInfo(path).Length, sha256);
            foreach (var (key, value) in mine)
            {
                tensors.Add(key, new CheckpointTensor(file, value.DType, value.Shape));
            }
        });
        return new RankShard(error, file, content, tensors);
    }

    private RankShard[] WriteShards(long step, IEnumerable<StateTensor> state)
    {
        var all = mesh.World.GatherAfter(() => JsonSerializer.SerializeToUtf8Bytes(WriteShard(step, state), CheckpointJson.Default.RankShard), device);
        return Array.ConvertAll(all, bytes => JsonSerializer.Deserialize(bytes, CheckpointJson.Default.RankShard)!);
    }

    private void Complete(RunPosition position, RankShard[] shards)
    {
        var manifest = new CheckpointManifest(CheckpointManifest.CurrentFormat, mesh.ToString(), position, new(StringComparer.Ordinal), new(StringComparer.Ordinal));
        foreach (var shard in shards)
        {
            manifest.Files.Add(shard.File!, shard.Content!);
            foreach (var (key, tensor) in shard.Tensors)
            {
                manifest.Tensors.Add(key, tensor);
            }
        }

        manifest.Write(folder.PartialOf(position.Step));
        folder.Complete(position.Step, keep);
    }

    // An action of one rank whose failure all ranks must hear of before any of them goes on.
    private void Together(long step, string what, Func<string?> act)
    {
        var errors = mesh.World.GatherAfter(() => System.Text.Encoding.UTF8.GetBytes(act() ?? ""));
        ThrowIfFailed(step, what, [.. errors.Select(error => error.Length == 0 ? null : System.Text.Encoding.UTF8.GetString(error))]);
    }

    private void ThrowIfFailed(long step, string what, string?[] errors)
    {
        var rank = Array.FindIndex(errors, error => error is not null);
        if (rank < 0)
        {
            return;
        }

        if (mesh.World.Rank == 0)
        {
            Run(() => folder.Discard(step));
        }

        throw new TrainingException(
            $"the checkpoint of step {step} was not written: rank {rank} could not {what}: {errors[rank]}; earlier checkpoints in '{folder.Location}' are untouched",
            DiskFault.Remedy(errors[rank]!));
    }
}
