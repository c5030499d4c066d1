using Moe.Torch;

namespace Moe.Training.Profiling;

/// <summary>Adds up one rank's spans by part, each without the spans inside it.</summary>
internal sealed class StepAccount
{
    /// <summary>A span around a step is named so, with the step's number.</summary>
    public const string StepName = "step ";

    private const string Other = "other";

    private readonly IReadOnlyList<RecordedSpan> _spans;

    public StepAccount(IReadOnlyList<RecordedSpan> spans)
    {
        _spans = spans;
        var (host, device) = (new double[spans.Count], new double[spans.Count]);
        for (var i = 0; i < spans.Count; i++)
        {
            host[i] += spans[i].End - spans[i].Begin;
            device[i] += spans[i].DeviceEnd - spans[i].DeviceBegin;
            if (spans[i].Parent is >= 0 and var parent)
            {
                host[parent] -= spans[i].End - spans[i].Begin;
                device[parent] -= spans[i].DeviceEnd - spans[i].DeviceBegin;
            }
        }

        for (var i = 0; i < spans.Count; i++)
        {
            var root = RootOf(i);
            if (!IsStep(spans[root]))
            {
                Add(Beside, spans[root].Name, new Sum(host[i], device[i], spans[i].Waiting, i == root ? 1 : 0));
                continue;
            }

            Steps += i == root ? 1 : 0;
            Step += new Sum(host[i], device[i], spans[i].Waiting, i == root ? 1 : 0);
            Add(Parts, NameOf(i, root), new Sum(host[i], device[i], spans[i].Waiting, 1));
        }
    }

    /// <summary>Steps that were recorded.</summary>
    public int Steps { get; private set; }

    /// <summary>Of all steps together.</summary>
    public Sum Step { get; private set; }

    /// <summary>Of all steps together, by part.</summary>
    public Dictionary<string, Sum> Parts { get; } = [];

    /// <summary>What lay outside the steps, by name.</summary>
    public Dictionary<string, Sum> Beside { get; } = [];

    private static void Add(Dictionary<string, Sum> sums, string name, Sum sum) => sums[name] = sums.GetValueOrDefault(name) + sum;

    private static bool IsStep(RecordedSpan span) => span.Parent < 0 && span.Name.StartsWith(StepName, StringComparison.Ordinal);

    private int RootOf(int index)
    {
        while (_spans[index].Parent >= 0)
        {
            index = _spans[index].Parent;
        }

        return index;
    }

    // Below a phase of the step, a part has the phase before its name.
    private string NameOf(int index, int root)
    {
        if (index == root)
        {
            return ProfileTable.Rest;
        }

        var top = index;
        while (_spans[top].Parent != root)
        {
            top = _spans[top].Parent;
        }

        var phase = _spans[top];
        var name = _spans[index].Kind == SpanKind.Phase ? Other : _spans[index].Name;
        return phase.Kind == SpanKind.Phase ? $"{phase.Name}: {name}" : index == top ? name : $"{phase.Name}: {name}";
    }

    /// <summary>Microseconds, and how often.</summary>
    internal readonly record struct Sum(double Host, double Device, double Waiting, int Calls)
    {
        public static Sum operator +(Sum a, Sum b) => new(a.Host + b.Host, a.Device + b.Device, a.Waiting + b.Waiting, a.Calls + b.Calls);
    }
}
