using Moe.Launch.Supervision;
using Moe.Training.Hosting;
using Moe.Training.Profiling;

namespace Moe.Launch.Terminal;

/// <summary>Shows only what the run itself says to the user, such as the answer of <c>verify</c>: <c>--verbosity q</c>.</summary>
internal sealed class QuietView(TextWriter output) : IRunView
{
    public void Started(RunHeader header)
    {
    }

    public void Info(InfoMessage info)
    {
    }

    public void Metrics(MetricsMessage metrics)
    {
    }

    public void Event(EventMessage e)
    {
    }

    public void Text(string line) => output.WriteLine(line);

    public void Profile(ProfileTable table)
    {
        foreach (var line in table.Lines)
        {
            output.WriteLine(line);
        }
    }

    public void Notice(string text)
    {
    }

    public void Ended(RunOutcome outcome)
    {
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
