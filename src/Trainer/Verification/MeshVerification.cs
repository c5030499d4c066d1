using System.Globalization;
using Moe.Distributed;
using Moe.Torch;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;

namespace Moe.Training.Verification;

/// <summary>
/// Runs a small form of the user's own configuration on the mesh and again on one process, on the same samples, and compares loss, gradient
/// norm and every logical parameter. What differs is an error of the parallel form, whatever the model.
/// </summary>
/// <param name="config">The user's, checked against the mesh.</param>
/// <param name="mesh">All ranks; stays the caller's.</param>
/// <param name="folder">Where the mesh's weights pass to the process that compares them; removed again.</param>
/// <param name="print">Told of each line of the table.</param>
/// <param name="device">Where this rank computes. The one process computes there too, but for a single rank on a GPU, which is compared with the host.</param>
internal sealed class MeshVerification(RunConfig config, DeviceMesh mesh, string folder, Action<string> print, Device device = default)
{
    /// <summary>Makes all comparisons. Every rank calls this.</summary>
    /// <returns>Whether all differences are within their bounds; the same on every rank.</returns>
    public bool Run()
    {
        print($"verify: {mesh.World.Size} rank(s), {mesh}, backend {mesh.World.Backend}, on {Place(device)}, against one process on {Place(Reference)}; "
            + $"{Trial.Steps} steps, {Manner}; differences relative to the largest entry");
        var within = true;
        foreach (var trial in Trial.Of(ShrunkConfig.Of(config, mesh.Expert.Size)))
        {
            within &= Compare(trial);
        }

        print(within ? "verified: the mesh computes what one process computes" : "NOT verified: a difference is beyond its bound");
        return within;
    }

    private bool Compare(Trial trial)
    {
        var onMesh = new CheckpointFolder(Path.Combine(folder, "verify"));
        using var session = Session(trial.Config, mesh, device);
        var meshResults = Steps(session);
        session.Save();
        var verdict = new byte[1];
        if (mesh.World.Rank == 0)
        {
            var differences = Differences(trial, onMesh.Of(Trial.Steps), meshResults);
            Report(trial, differences);
            verdict[0] = differences.All(difference => difference.Relative <= trial.Bound) ? (byte)1 : (byte)0;
            Directory.Delete(onMesh.Location, recursive: true);
        }

        // The other ranks wait here for the process that compares.
        return mesh.World.GatherBytes(verdict)[0][0] == 1;
    }

    private List<Difference> Differences(Trial trial, string checkpoint, StepResult[] meshResults)
    {
        // One process reads as one micro-batch what the mesh's ranks read as one each: the same samples in the same order.
        using var alone = new DeviceMesh(new SingleProcessGroup(mesh.World.Timeout), 1);
        var parallel = trial.Config.Parallel with { Dispatcher = DispatcherName.Local, ExpertParallel = 1 };
        var behind = trial.Config.Optimizer with { ExpertsInBackward = false };
        using var session = Session(trial.Config with { Parallel = parallel, Optimizer = behind }, alone, Reference);
        var reference = Steps(session);
        List<Difference> differences = [];
        for (var step = 0; step < Trial.Steps; step++)
        {
            differences.Add(Difference.Of($"loss of step {step + 1}", meshResults[step].Loss, reference[step].Loss));
            differences.Add(Difference.Of($"gradient norm of step {step + 1}", meshResults[step].GradientNorm, reference[step].GradientNorm));
        }

        using var reader = new CheckpointReader(checkpoint);
        using var scope = new TensorScope();
        differences.AddRange(session.Model.Parameters
            .SelectMany(parameter => parameter.Logical(parameter.Value.Detach()))
            .Select(logical => Difference.Of(logical.Key, reader.Read(logical.Key, logical.Value.Shape), logical.Value.To(Device.Cpu))));
        return differences;
    }

    private string Manner => config.Optimizer.ExpertsInBackward
        ? "experts stepped within backward, which one process does behind it" : "clipping on, accumulation 2";

    private Device Reference => mesh.World.Size == 1 ? Device.Cpu : device;

    private static string Place(Device device) => device.IsCuda ? "cuda" : "cpu";

    private TrainingSession Session(RunConfig trial, DeviceMesh ranks, Device place)
    {
        var sequencesPerRank = trial.Train.MicroBatch * (mesh.World.Size / ranks.World.Size);
        return new TrainingSession(
            trial with { Train = trial.Train with { MicroBatch = sequencesPerRank, KeepCheckpoints = 1 } },
            ranks,
            new CheckpointFolder(Path.Combine(folder, "verify")),
            sequencesPerSegment: trial.Train.MicroBatch,
            device: place);
    }

    private static StepResult[] Steps(TrainingSession session)
    {
        var results = new StepResult[Trial.Steps];
        for (var step = 0; step < results.Length; step++)
        {
            session.Mesh.World.Trace.Step = step + 1;
            results[step] = session.Advance(stop: false);
        }

        return results;
    }

    private void Report(Trial trial, List<Difference> differences)
    {
        var worst = differences.MaxBy(difference => difference.Order)!;
        print(string.Create(CultureInfo.InvariantCulture, $"{trial.Name}: bound {trial.Bound:0e0}, largest difference {worst.Relative:0.00e0} ({worst.What})"));
        foreach (var difference in differences)
        {
            var mark = difference.Relative <= trial.Bound ? "" : "  BEYOND";
            print(string.Create(CultureInfo.InvariantCulture, $"  {difference.Relative,9:0.00e0}  {difference.What}{mark}"));
        }
    }
}
