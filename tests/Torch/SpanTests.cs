using System.Diagnostics;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
[Parallelizable(ParallelScope.None)] // a recording is the process's
public sealed class SpanTests(Device device) : ScopedTests
{
    [Test]
    public void Nothing_is_kept_or_allocated_while_no_recording_is_on()
    {
        Pass();
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1000; i++)
        {
            Pass();
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread(), Is.EqualTo(before));
        using var recording = SpanRecording.Begin(device);
        Assert.That(recording.End(), Is.EqualTo(new RecordedSpans([], [])).Using<RecordedSpans>((a, b) => a.Spans.Count == b.Spans.Count && a.Beside.Count == b.Beside.Count));

        static void Pass()
        {
            using var frame = Spans.Phase("frame");
            using var part = Spans.Open("part", 3);
            Spans.AddWaiting(TimeSpan.FromSeconds(1));
            Spans.AddBeside("beside", "", null, 8, 0);
        }
    }

    [Test]
    public void Spans_nest_with_the_layer_of_the_span_around_them()
    {
        using var recording = SpanRecording.Begin(device);
        using (Spans.Phase("layer", 4))
        {
            using (Spans.Open("a"))
            {
                Spans.AddWaiting(TimeSpan.FromMilliseconds(2));
            }

            using (Spans.Open("b", 5))
            using (Spans.Open("c"))
            {
                Spans.AddWaiting(TimeSpan.FromMilliseconds(1));
            }
        }

        var begun = Stopwatch.GetTimestamp();
        Spans.AddBeside("all_to_all", "rows", 1, 128, begun);
        var recorded = recording.End();
        Assert.That(
            recorded.Spans.Select(span => (span.Name, span.Kind, span.Layer, span.Parent, span.Waiting)),
            Is.EqualTo(new (string, SpanKind, int?, int, double)[]
            {
                ("layer", SpanKind.Phase, 4, -1, 0), ("a", SpanKind.Part, 4, 0, 2000), ("b", SpanKind.Part, 5, 0, 0), ("c", SpanKind.Part, 5, 2, 1000),
            }));
        AssertNesting(recorded.Spans);
        Assert.That(recorded.Beside.Select(beside => (beside.Name, beside.Purpose, beside.Layer, beside.Bytes)), Is.EqualTo([("all_to_all", "rows", (int?)1, 128L)]));
        Assert.That(Spans.IsOn, Is.False);
    }

    [Test]
    public void Backward_of_what_a_part_computed_is_a_span_of_its_name_and_changes_no_bit()
    {
        var expected = Compute(out _);
        using var recording = SpanRecording.Begin(device);
        var gradient = Compute(out var nodes);
        var spans = recording.End().Spans;

        Assert.That(gradient, Is.EqualTo(expected));
        var backward = spans.Select((span, index) => (span, index)).Single(place => place.span.Name == "backward").index;
        var own = spans.Where(span => span.Kind == SpanKind.Backward).ToArray();
        Assert.That(own.Select(span => span.Name), Is.EqualTo(nodes), "in the order of backward, each node once");
        Assert.That(own, Is.All.Matches<RecordedSpan>(span => span.Layer == 2 && span.Parent == backward));
        AssertNesting(spans);
    }

    [Test]
    public void Device_spans_lie_within_one_another_and_are_there_only_with_a_device()
    {
        using var recording = SpanRecording.Begin(device);
        Compute(out _);
        var spans = recording.End().Spans;
        if (!device.IsCuda)
        {
            Assert.That(spans.Select(span => span.DeviceEnd), Is.All.NaN);
            return;
        }

        Assert.That(spans.Select(span => span.DeviceBegin), Is.All.GreaterThanOrEqualTo(0));
        const double Noise = 1; // microseconds: marks are told in steps of half a microsecond
        foreach (var span in spans)
        {
            Assert.That(span.DeviceEnd, Is.GreaterThanOrEqualTo(span.DeviceBegin - Noise));
            if (span.Parent >= 0)
            {
                Assert.That(span.DeviceBegin, Is.GreaterThanOrEqualTo(spans[span.Parent].DeviceBegin - Noise));
                Assert.That(span.DeviceEnd, Is.LessThanOrEqualTo(spans[span.Parent].DeviceEnd + Noise));
            }
        }
    }

    [Test]
    public void Span_of_another_thread_is_inside_the_one_that_the_first_has_open()
    {
        using var recording = SpanRecording.Begin(device);
        using (Spans.Phase("outside"))
        using (Spans.Phase("waits"))
        {
            var other = new Thread(() =>
            {
                using var span = Spans.Open("elsewhere");
                using var inner = Spans.Open("inner");
            });
            other.Start();
            other.Join();
        }

        Assert.That(
            recording.End().Spans.Select(span => (span.Name, span.Parent, span.Thread)),
            Is.EqualTo([("outside", -1, 0), ("waits", 0, 0), ("elsewhere", 1, 1), ("inner", 2, 1)]));
    }

    [Test]
    public void Recording_knows_nothing_of_the_graph_of_another()
    {
        Tensor loss;
        using (SpanRecording.Begin(device))
        using (Spans.Open("earlier"))
        {
            var x = Leaf();
            loss = (x * x).Sum();
        }

        using var recording = SpanRecording.Begin(device);
        Assert.That(() => SpanRecording.Begin(device), Throws.InvalidOperationException);
        Autograd.Backward(loss);
        Assert.That(recording.End().Spans, Is.Empty);
    }

    private static void AssertNesting(IReadOnlyList<RecordedSpan> spans)
    {
        foreach (var span in spans)
        {
            Assert.That(span.End, Is.GreaterThanOrEqualTo(span.Begin));
            Assert.That(span.Parent < 0 || (spans[span.Parent].Begin <= span.Begin && span.End <= spans[span.Parent].End), span.ToString());
        }
    }

    private Tensor Leaf()
    {
        var x = Tensor.From([1.0, -2.0, 0.3]).To(device);
        x.RequiresGrad = true;
        return x;
    }

    // A part of recorded operators and one of a managed function, and the backward of both.
    private double[] Compute(out string[] nodes)
    {
        var x = Leaf();
        Tensor loss;
        using (Spans.Phase("forward"))
        using (Spans.Phase("layer", 2))
        {
            Tensor y;
            using (Spans.Open("square"))
            {
                y = x * x;
            }

            using (Spans.Open("tripled"))
            {
                loss = new Tripled().Apply(y)[0].Sum();
            }
        }

        using (Spans.Phase("backward"))
        {
            Autograd.Backward(loss);
        }

        nodes = ["tripled", "tripled", "square"];
        return x.Gradient!.ToArray<double>();
    }

    private sealed class Tripled : Function
    {
        protected override Tensor[] Forward(Tensor[] inputs) => [inputs[0].Multiply(3)];

        protected override Tensor?[] Backward(Tensor?[] outputGradients) => [outputGradients[0]!.Multiply(3)];
    }
}
