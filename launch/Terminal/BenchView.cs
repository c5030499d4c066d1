using System.Globalization;
using Moe.Launch.Supervision;
using Moe.Training.Benchmarks;
using Moe.Training.Hosting;
using Moe.Training.Profiling;

namespace Moe.Launch.Terminal;

/// <summary>A benchmark's numbers and nothing else on standard output: a table for people, or one JSON object.</summary>
internal sealed class BenchView(Screen screen, bool asJson) : IRunView
{
    private ProfileTable? _profile;

    public void Started(RunHeader header) => screen.Error.WriteLine(header.FirstLine);

    public void Info(InfoMessage info)
    {
    }

    public void Metrics(MetricsMessage metrics)
    {
        if (asJson)
        {
            JsonView.WriteObject(screen.Output, json =>
            {
                JsonView.WriteRow(json, metrics.Row);
                if (_profile is not null)
                {
                    JsonView.WriteProfile(json, _profile);
                }
            });
            return;
        }

        var widest = metrics.Row.Keys.Max(key => key.Length);
        foreach (var (key, value) in metrics.Row)
        {
            screen.Output.WriteLine($"{key.PadRight(widest)}  {value.ToString(Math.Abs(value) >= 1000 ? "N0" : "G4", CultureInfo.InvariantCulture)}");
        }

        foreach (var line in _profile is null ? [] : _profile.Lines)
        {
            screen.Output.WriteLine(line);
        }
    }

    public void Kernels(KernelReport report)
    {
        if (asJson)
        {
            KernelJson.Write(screen.Output, report);
        }
        else
        {
            KernelText.Write(screen.Output, report);
        }
    }

    public void Event(EventMessage e) => screen.Error.WriteLine($"{e.Kind}: {e.Text}");

    public void Text(string line) => screen.Error.WriteLine(line);

    public void Profile(ProfileTable table) => _profile = table;

    public void Notice(string text) => screen.Error.WriteLine(text);

    public void Ended(RunOutcome outcome)
    {
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
