using System.Text.Json;
using Moe.Distributed;
using Moe.Tests.Training;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Checkpoints;

/// <summary>What the ranks of <see cref="CheckpointMeshTests"/> and <see cref="CheckpointFailureTests"/> do. The first argument is the folder.</summary>
internal static class CheckpointScenarios
{
    private const int StepsBefore = 2;
    private const int StepsAfter = 2;

    private static readonly JsonSerializerOptions Exact = new() { Converters = { new ExactNumber() } };

    /// <summary>Trains on every mesh of these ranks, saves in the middle, and writes down what the state was then and what came after.</summary>
    public static void SaveOnEveryMesh(ProcessGroup world, string[] arguments)
    {
        foreach (var mesh in Meshes(world))
        {
            using (mesh)
            {
                var run = RunOn(mesh.ToString(), arguments[0]);
                Directory.CreateDirectory(run);
                using var session = TinyRun.Session(Config(arguments[0]), mesh, Path.Combine(run, "checkpoints"));
                _ = Steps(session, StepsBefore);
                session.Save();
                Write(Path.Combine(run, $"saved-{world.Rank}.json"), session.All());
                Write(Path.Combine(run, $"steps-{world.Rank}.json"), Steps(session, StepsAfter));
                Write(Path.Combine(run, $"end-{world.Rank}.json"), session.All());
            }
        }
    }

    /// <summary>Loads every checkpoint there is on every mesh of these ranks, and goes on.</summary>
    public static void LoadOnEveryMesh(ProcessGroup world, string[] arguments)
    {
        foreach (var mesh in Meshes(world))
        {
            using (mesh)
            {
                foreach (var run in Directory.GetDirectories(Path.Combine(arguments[0], "runs")))
                {
                    Continue(run, mesh, arguments[0]);
                }
            }
        }
    }

    /// <summary>Writes fail in the hands of one rank: all hear of it, and the checkpoint before stays.</summary>
    public static void FailTogether(ProcessGroup world, string[] arguments)
    {
        var folder = new CheckpointFolder(Path.Combine(arguments[0], "failing"));
        using var mesh = new DeviceMesh(world, world.Size);
        using var session = TinyRun.Session(Config(arguments[0]), mesh, folder.Location);
        session.Advance(stop: false);
        var kept = session.Save();
        session.Advance(stop: false);

        MustFail(session, world, folder.PartialOf(2), "rank 0 could not prepare the folder");
        MustFail(session, world, folder.Of(2), "rank 0 could not complete it");

        // The last rank sees another file system, without the folder that rank 0 made.
        using (var elsewhere = TinyRun.Session(Config(arguments[0]), mesh, world.Rank == world.Size - 1 ? folder.Location + "-unshared" : folder.Location))
        {
            var refusal = Assert.Throws<TrainingException>(() => elsewhere.Save());
            Assert.That(refusal!.Message, Does.Contain($"rank {world.Size - 1} could not write its shard").And.Contain("untouched"));
        }

        world.Barrier();
        Assert.That(Directory.GetFileSystemEntries(folder.Location).Select(Path.GetFileName), Is.EquivalentTo(["step_00000001", "latest"]));
        CheckpointFolder.Verify(kept);
        world.Barrier();
        Assert.That(session.Save(), Is.EqualTo(folder.Of(2)), "once it is mended, saving works");
        CheckpointFolder.Verify(folder.Of(2));
    }

    /// <summary>One rank is slow to write its share, and the first to read: longer than a collective may take.</summary>
    public static void WaitForFiles(ProcessGroup world, string[] arguments)
    {
        var patience = world.Timeout * 2.5;
        var folder = new CheckpointFolder(Path.Combine(arguments[0], "checkpoints"));
        if (world.Rank == 0)
        {
            Directory.CreateDirectory(arguments[0]);
        }

        world.Barrier();
        using var mesh = new DeviceMesh(world, world.Size);
        var writer = new CheckpointWriter(folder, mesh, keep: 0);
        foreach (var step in new[] { 1L, 2 })
        {
            using var scope = new TensorScope();
            writer.Save(new RunPosition(step, 0, 0, 0, 0, 1, "", new Dictionary<string, double>(), new Dictionary<string, string>()), Share(step));
        }

        // Of a damaged one rank 0 says so before it looks at the other.
        if (world.Rank == 0)
        {
            File.AppendAllText(Path.Combine(folder.Of(2), "shard_00000.safetensors"), "more");
        }

        using var source = ResumeSource.Choose("auto", folder, world, _ => Thread.Sleep(patience));
        Assert.That(source!.Folder, Is.EqualTo(folder.Of(1)));

        IEnumerable<StateTensor> Share(long step)
        {
            Thread.Sleep(step == 1 && world.Rank == world.Size - 1 ? patience : TimeSpan.Zero);
            yield return new StateTensor($"tensor.{world.Rank}", Tensor.Ones([3]), Written: true);
        }
    }

    private static void MustFail(TrainingSession session, ProcessGroup world, string obstacle, string message)
    {
        if (world.Rank == 0)
        {
            File.WriteAllText(obstacle, "a file where a folder should be");
        }

        var refusal = Assert.Throws<TrainingException>(() => session.Save());
        Assert.That(refusal!.Message, Does.Contain(message).And.Contain("untouched"));
        world.Barrier();
        if (world.Rank == 0)
        {
            File.Delete(obstacle);
        }
    }

    private static IEnumerable<DeviceMesh> Meshes(ProcessGroup world)
    {
        for (var expertParallel = 1; expertParallel <= world.Size; expertParallel *= 2)
        {
            if (world.Size < 4 || expertParallel > 1)
            {
                yield return new DeviceMesh(world, expertParallel);
            }
        }
    }

    private static void Continue(string run, DeviceMesh mesh, string folder)
    {
        var what = $"{Path.GetFileName(run)} on {mesh}";
        List<string> warnings = [];
        using var source = ResumeSource.Choose(run, new CheckpointFolder("unused"), mesh.World, warnings.Add);
        using var session = TinyRun.Session(Config(folder), mesh);
        session.Resume(source!.Checkpoint, warnings.Add);
        Assert.That(warnings, Is.Empty, what);
        Assert.That((session.Step, session.ConsumedSamples), Is.EqualTo(((long)StepsBefore, (long)StepsBefore * TinyRun.Sequences)), what);

        // What the writing ranks held, whichever of them it was: the keys name experts by their global number.
        var saved = Directory.GetFiles(run, "saved-*.json").SelectMany(Read<Dictionary<string, double[]>>).DistinctBy(entry => entry.Key).ToDictionary();
        foreach (var (key, value) in session.All())
        {
            Assert.That(value, Is.EqualTo(saved[key]), $"{what}: {key}");
        }

        var steps = Steps(session, StepsAfter);
        var uninterrupted = Read<StepNumbers[]>(Path.Combine(run, "steps-0.json"));
        var isSameMesh = run == RunOn(mesh.ToString(), folder);
        for (var i = 0; i < StepsAfter; i++)
        {
            Assert.That(uninterrupted[i].Differences(steps[i], isSameMesh ? 0 : 1e-5), Is.Empty, $"{what}: step {StepsBefore + i + 1}");
        }

        if (isSameMesh)
        {
            Assert.That(session.All(), Is.EqualTo(Read<Dictionary<string, double[]>>(Path.Combine(run, $"end-{mesh.World.Rank}.json"))), what);
        }
    }

    private static RunConfig Config(string folder)
    {
        var config = TinyRun.Config(folder);
        return config with
        {
            Optimizer = new() { Name = OptimizerName.AdamW, LearningRate = 0.01 },
            Balance = config.Balance with { Scope = BalanceScope.Global, BiasRate = 0.01 },
            Schedule = new() { WarmupSteps = 3 },
            Train = config.Train with { ClipNorm = 1 },
        };
    }

    private static StepNumbers[] Steps(TrainingSession session, int count) =>
        [.. Enumerable.Range(0, count).Select(_ => StepNumbers.Of(session.Advance(stop: false)))];

    private static string RunOn(string mesh, string folder) => Path.Combine(folder, "runs", mesh.Replace(' ', '-'));

    private static void Write<T>(string path, T value) => File.WriteAllBytes(path, JsonSerializer.SerializeToUtf8Bytes(value, Exact));

    private static T Read<T>(string path) => JsonSerializer.Deserialize<T>(File.ReadAllBytes(path))!;
}
