using System.Text.Json;
using Moe.Tests.Torch;
using Moe.Tests.Training;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using Moe.Training.Profiling;
using NUnit.Framework;

namespace Moe.Tests.Profiling;

/// <summary>A profile of one rank, by its device's clock where it has one.</summary>
[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
[Parallelizable(ParallelScope.None)] // a recording is the process's
public sealed class DeviceProfileTests(Device device) : TinyRunTests
{
    [Test]
    public void Parts_have_the_time_of_the_device_that_they_add_up_to([Values] bool capture)
    {
        if (capture && !device.IsCuda)
        {
            Assert.Ignore("a graph needs a GPU: not run");
        }

        if (device.IsCuda)
        {
            CudaRuntime.Use(device);
        }

        var file = Path.Combine(Folder, $"{capture}.json");
        var table = Profile(file, capture);
        var names = JsonDocument.Parse(File.ReadAllBytes(file)).RootElement.GetProperty("traceEvents").EnumerateArray()
            .Where(e => e.GetProperty("name").GetString() == "thread_name").Select(e => e.GetProperty("args").GetProperty("name").GetString()).ToArray();

        Assert.That(table.Parts.Select(part => part.Part), Is.SupersetOf(new[] { "forward: attention", "backward: attention", "backward: experts", "backward: norm", "optimizer" }));
        Assert.That(table.Parts.Sum(part => part.Ms), Is.EqualTo(table.Step.Ms).Within(0.1).Percent);
        Assert.That(names, device.IsCuda ? Does.Contain("device") : Does.Not.Contain("device"));
        if (device.IsCuda)
        {
            Assert.That(table.Step.DeviceMs, Is.GreaterThan(0));
            Assert.That(table.Parts.Sum(part => part.DeviceMs), Is.EqualTo(table.Step.DeviceMs).Within(0.1).Percent);
            Assert.That(table.Parts.Single(part => part.Part == "backward: experts").DeviceMs, Is.GreaterThan(0));
        }
        else
        {
            Assert.That(table.Step.DeviceMs, Is.Null);
        }
    }

    private ProfileTable Profile(string file, bool capture)
    {
        var config = TinyRun.Config(Folder);
        config = capture
            ? config with
            {
                Train = config.Train with { GraphCapture = true, Precision = Precision.BFloat16 },
                Model = config.Model with { Moe = config.Model.Moe with { ExpertWidth = 16 } },
            }
            : config;
        using var mesh = TinyRun.Alone();
        using var session = new TrainingSession(
            config, mesh, new CheckpointFolder("nowhere"), TinyRun.SegmentSequences, device);
        using var profiler = new StepProfiler(new ProfileRequest(file, new StepRange(5, 6)), mesh.World, device, done: 0, last: 8, warn: text => Assert.Fail(text));
        ProfileTable? table = null;
        for (var step = 1; step <= 8; step++)
        {
            profiler.Begin(step);
            using (StepProfiler.OpenStep(step))
            {
                Assert.That(double.IsFinite(session.Advance(stop: false).Loss));
            }

            table = profiler.End(step, isLast: false) ?? table;
        }

        return table!;
    }
}
