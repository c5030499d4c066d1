using Moe.Torch;
using Moe.Training;
using Moe.Training.Hosting;
using Moe.Training.Profiling;
using NUnit.Framework;

namespace Moe.Tests.Profiling;

/// <summary>The arithmetic of a profile, on spans with round numbers.</summary>
internal sealed class ProfileTableTests
{
    [Test]
    public void Parts_are_told_without_those_inside_them_and_add_up_to_the_step()
    {
        var table = ProfileSummary.Of([Rank(1000), Rank(3000)], new StepRange(4, 5));

        Assert.That(table.Parts.Select(part => (part.Part, part.Ms, part.Calls)), Is.EqualTo([
            ("data", 1.0, 1.0), ("forward: experts", 3.0, 2.0), ("forward: other", 1.0, 1.0), ("backward: experts", 2.0, 1.0), ("backward: other", 1.0, 1.0),
            (ProfileTable.Rest, 2.0, 1.0),
        ]));
        Assert.That(table.Step, Is.EqualTo(new ProfilePart("step", 10, 12, 1, 100, 1, 0.5)));
        var experts = table.Parts[1];
        Assert.That((experts.SharePct, experts.WaitingMs, experts.SlowestMs, experts.SlowestRank), Is.EqualTo((30, 0.5, 3.0, 0)));
        Assert.That((table.Parts[0].SlowestMs, table.Parts[0].SlowestRank), Is.EqualTo((3.0, 1)));
        Assert.That(table.Beside.Select(part => (part.Part, part.Ms)), Is.EqualTo([("evaluation", 7.0)]));
    }

    [Test]
    public void Device_has_columns_of_its_own()
    {
        RecordedSpan[] spans =
        [
            new("step 1", SpanKind.Phase, null, -1, 0, 0, 1000, 0, 0, 8000), new("optimizer", SpanKind.Part, null, 0, 0, 100, 300, 0, 1000, 6000),
        ];
        var table = ProfileSummary.Of([new RecordedSpans(spans, [])], new StepRange(1, 1));

        Assert.That(table.Parts.Select(part => part.DeviceMs), Is.EqualTo([5.0, 3.0]));
        Assert.That(table.Step.DeviceMs, Is.EqualTo(8));
        Assert.That(table.Lines[1], Does.EndWith("device  slowest"));
    }

    [Test]
    public void Recording_arrives_as_it_left()
    {
        var sent = new RecordedSpans(
            [new("a", SpanKind.Backward, 3, -1, 1, 0.25, 2, 0.5, double.NaN, double.NaN), new("b", SpanKind.Part, null, 0, 0, 1, 2, 0, 3, 4)],
            [new("all_to_all", "moe.dispatch", 1, 1L << 40, 1, 2)]);
        var arrived = RankSpans.Read(RankSpans.ToBytes(sent));

        Assert.That(arrived.Spans, Is.EqualTo(sent.Spans));
        Assert.That(arrived.Beside, Is.EqualTo(sent.Beside));
    }

    [TestCase("3-5", 3, 5)]
    [TestCase("7", 7, 7)]
    public void Steps_are_read(string text, long first, long last)
    {
        Assert.That(StepRange.TryParse(text, out var range), Is.True);
        Assert.That(range, Is.EqualTo(new StepRange(first, last)));
        Assert.That(range.ToString(), Is.EqualTo(text));
    }

    [Test]
    public void Other_texts_are_no_steps([Values("", "0", "0-3", "5-3", "-3", "3-", "1-2-3", "a", "+1", " 1")] string text) =>
        Assert.That(StepRange.TryParse(text, out _), Is.False);

    [TestCase(null, 0, 100, "3-5")]
    [TestCase(null, 40, 100, "43-45")]
    [TestCase(null, 0, 4, "3-4")]
    [TestCase(null, 0, 1, "1")]
    [TestCase(null, 98, 100, "100")]
    [TestCase("2-9", 0, 100, "2-9")]
    [TestCase("2-9", 5, 100, "6-9")]
    [TestCase("2-9", 9, 100, null)]
    public void Steps_that_are_profiled_are_still_to_come(string? asked, long done, long last, string? expected)
    {
        StepRange? range = asked is not null && StepRange.TryParse(asked, out var steps) ? steps : null;
        Assert.That(new ProfileRequest("/t", range).StepsAfter(done, last)?.ToString(), Is.EqualTo(expected));
    }

    [Test]
    public void Rank_is_told_all_that_the_launcher_was_asked_for()
    {
        string[] before = ["train", "--config", "c.yaml", "--profile", "/t.json"];
        Assert.That(RankArguments.Parse([.. before, "--profile-steps", "2-4", "--profile-kernels", "true"]).Profile, Is.EqualTo(new ProfileRequest("/t.json", new StepRange(2, 4), true)));
        Assert.That(RankArguments.Parse(before).Profile, Is.EqualTo(new ProfileRequest("/t.json")));
        Assert.That(RankArguments.Parse(before[..3]).Profile, Is.Null);
        Assert.That(() => RankArguments.Parse([.. before, "--profile-steps", "4-2"]), Throws.TypeOf<FormatException>());
    }

    [TestCase("NVIDIA H100 80GB HBM3", 989)]
    [TestCase("NVIDIA H100 PCIe", 756)]
    [TestCase("NVIDIA H200", 989)]
    [TestCase("NVIDIA A100-SXM4-40GB", 312)]
    [TestCase("NVIDIA L4", 121)]
    [TestCase("NVIDIA L40S", 362)]
    [TestCase("Some other device", null)]
    public void Peak_rate_of_known_devices_is_their_makers(string name, double? tflops) => Assert.That(PeakRate.OfDevice(name), Is.EqualTo(tflops));

    // Two steps of 10 ms, the first of which reads for `reading` us and both of which together 2 ms on the first rank; an evaluation between them.
    private static RecordedSpans Rank(double reading)
    {
        var late = reading - 1000;
        List<RecordedSpan> spans = [];
        for (var step = 0; step < 2; step++)
        {
            var (at, first) = (step * 30_000.0, spans.Count);
            Add($"step {step + 4}", SpanKind.Phase, -1, 0, 10_000 + late);
            Add("data", SpanKind.Part, 0, 0, reading);
            Add("forward", SpanKind.Phase, 0, 2000 + late, 6000 + late);
            Add("experts", SpanKind.Part, 2, 2000 + late, 4000 + late, waiting: 500);
            Add("experts", SpanKind.Part, 2, 4500 + late, 5500 + late);
            Add("backward", SpanKind.Phase, 0, 7000 + late, 10_000 + late);
            Add("experts", SpanKind.Backward, 5, 7500 + late, 9500 + late);

            void Add(string name, SpanKind kind, int parent, double begin, double end, double waiting = 0) => spans.Add(
                new RecordedSpan(name, kind, null, parent < 0 ? -1 : first + parent, 0, at + begin, at + end, waiting, double.NaN, double.NaN));
        }

        spans.Add(new RecordedSpan("evaluation", SpanKind.Part, null, -1, 0, 20_000, 27_000, 0, double.NaN, double.NaN));
        spans.Add(new RecordedSpan("experts", SpanKind.Part, null, spans.Count - 1, 0, 21_000, 22_000, 0, double.NaN, double.NaN));
        return new RecordedSpans(spans, []);
    }
}
