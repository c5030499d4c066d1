using System.Text.Json;
using Moe.Distributed;
using Moe.Tests.Training;
using Moe.Torch;
using Moe.Training.Configuration;
using Moe.Training.Profiling;
using NUnit.Framework;

namespace Moe.Tests.Profiling;

/// <summary>What the ranks of <see cref="ProfileTests"/> do. Argument: folder.</summary>
internal static class ProfileScenarios
{
    private const int Steps = 2, Accumulation = 2, Layers = 2;

    private static readonly string[] Moves = ["dispatch", "experts", "combine"];

    private static readonly string[] PhasesOfStep =
        ["preparation", "data", "counting", "forward", "backward", "reduction", "gradient norm", "totals", "optimizer", "sharing"];

    /// <summary>Two of four steps are profiled, with the bits of the same steps unprofiled; the first rank has a trace of all ranks and a table that adds up.</summary>
    public static void Profile(ProcessGroup world, string[] arguments)
    {
        var config = Config(arguments[0]);
        using var mesh = new DeviceMesh(world, world.Size);
        using var plain = TinyRun.Session(config, mesh);
        using var session = TinyRun.Session(config, mesh);
        var file = Path.Combine(arguments[0], $"{world.Backend}.json");
        using var profiler = new StepProfiler(
            new ProfileRequest(file, new StepRange(2, 3)), world, Device.Cpu, done: 0, last: 4, warn: text => Assert.Fail(text));
        StepNumbers[] expected = [.. Enumerable.Range(0, 4).Select(_ => StepNumbers.Of(plain.Advance(stop: false)))];
        ProfileTable? table = null;
        for (var step = 1; step <= 4; step++)
        {
            profiler.Begin(step);
            using (StepProfiler.OpenStep(step))
            {
                Assert.That(expected[step - 1].Differences(StepNumbers.Of(session.Advance(stop: false)), 0), Is.Empty, "profiling changes no bit");
            }

            Assert.That(Spans.IsOn, Is.EqualTo(step is 2 or 3));
            table = profiler.End(step, isLast: false) ?? table;
        }

        Assert.That(table is not null, Is.EqualTo(world.Rank == 0));
        if (table is not null)
        {
            Assert.That(table.TraceFile, Is.EqualTo(file));
            CheckTable(table, world.Size);
            CheckTrace(JsonDocument.Parse(File.ReadAllBytes(file)).RootElement.GetProperty("traceEvents"), world.Size);
        }
    }

    private static RunConfig Config(string folder)
    {
        var config = TinyRun.Config(folder);
        return config with
        {
            Optimizer = new() { Name = OptimizerName.AdamW },
            Balance = config.Balance with { Scope = BalanceScope.Global, Accumulation = BalanceAccumulation.Exact, BiasRate = 0.01, ZLoss = 0.01 },
            Model = config.Model with { Layers = Layers, Moe = config.Model.Moe with { SharedExperts = 1 } },
            Train = config.Train with { ClipNorm = 0.4, Accumulation = Accumulation },
        };
    }

    private static void CheckTable(ProfileTable table, int ranks)
    {
        Assert.That((table.FirstStep, table.LastStep, table.Ranks), Is.EqualTo((2, 3, ranks)));
        Assert.That(table.Parts.Sum(part => part.Ms), Is.EqualTo(table.Step.Ms).Within(0.1).Percent);
        Assert.That(table.Parts.Sum(part => part.SharePct), Is.EqualTo(100).Within(0.1));
        Assert.That(table.Parts[^1].Part, Is.EqualTo(ProfileTable.Rest));
        Assert.That(table.Parts, Is.All.Matches<ProfilePart>(part => part.Ms >= 0 && part.SlowestMs >= part.Ms && part.WaitingMs <= part.Ms));
        var calls = table.Parts.ToDictionary(part => part.Part, part => part.Calls);
        foreach (var part in Moves)
        {
            Assert.That(calls[$"forward: {part}"], Is.AtLeast(Accumulation * Layers), part);
            Assert.That(calls[$"backward: {part}"], Is.AtLeast(Accumulation * Layers), part);
        }

        Assert.That(calls["forward: attention"], Is.EqualTo(Accumulation * Layers));
        Assert.That(calls.Keys, Is.SupersetOf(new[]
        {
            "forward: embedding", "forward: norm", "forward: router", "forward: feed-forward", "forward: head", "forward: balance", "counting: dispatch",
            "backward: head", "backward: attention", "backward: norm", "backward: router", "backward: feed-forward", "backward: balance", "backward: embedding", "backward: other",
        }));
        Assert.That(table.Step.WaitingMs, Is.GreaterThan(0));
        Assert.That(table.Beside, Is.Empty);
    }

    private static void CheckTrace(JsonElement events, int ranks)
    {
        var spans = events.EnumerateArray().Where(e => e.GetProperty("ph").GetString() == "X").ToArray();
        Assert.That(
            events.EnumerateArray().Where(e => Name(e) == "process_name").Select(e => e.GetProperty("args").GetProperty("name").GetString()),
            Is.EqualTo(Enumerable.Range(0, ranks).Select(rank => $"rank {rank}")));
        for (var rank = 0; rank < ranks; rank++)
        {
            var own = spans.Where(span => span.GetProperty("pid").GetInt32() == rank).ToArray();
            Assert.That(own.Select(Name), Is.SupersetOf(PhasesOfStep).And.SupersetOf(new[] { "step 2", "step 3" }));
            foreach (var name in Moves)
            {
                for (var layer = 0; layer < Layers; layer++)
                {
                    Assert.That(own.Count(span => Name(span) == $"{name} backward" && Layer(span) == layer), Is.AtLeast(Steps * Accumulation), $"{name} of layer {layer}");
                    Assert.That(own.Count(span => Name(span) == name && Layer(span) == layer), Is.GreaterThanOrEqualTo(Steps * Accumulation));
                }
            }

            var purposes = own.Where(span => span.GetProperty("cat").GetString() == "collective").Select(span => span.GetProperty("args").GetProperty("purpose").GetString());
            Assert.That(purposes, Is.SupersetOf(new[] { "moe.dispatch", "moe.combine", "moe.dispatch.backward", "moe.combine.backward", "gradients", "metrics", "weights" }));
            foreach (var line in own.GroupBy(span => span.GetProperty("tid").GetInt32()))
            {
                AssertNesting([.. line]);
            }
        }
    }

    // As a viewer draws them: on a line, a span lies within the one before it or behind it.
    private static void AssertNesting(JsonElement[] line)
    {
        var open = new Stack<double>();
        foreach (var span in line.OrderBy(Begin).ThenByDescending(span => span.GetProperty("dur").GetDouble()))
        {
            var end = Begin(span) + span.GetProperty("dur").GetDouble();
            while (open.TryPeek(out var outer) && outer <= Begin(span) + 0.0005)
            {
                open.Pop();
            }

            Assert.That(open.TryPeek(out var around) ? around : double.MaxValue, Is.GreaterThanOrEqualTo(end - 0.0005), span.ToString());
            open.Push(end);
        }
    }

    private static string Name(JsonElement span) => span.GetProperty("name").GetString()!;

    private static double Begin(JsonElement span) => span.GetProperty("ts").GetDouble();

    private static int? Layer(JsonElement span) => span.GetProperty("args").TryGetProperty("layer", out var layer) ? layer.GetInt32() : null;
}
