using System.Globalization;

namespace Moe.Training.Hosting;

/// <summary>The link of a rank that was started by hand, by torchrun or by srun: reports are printed as <c>key=value</c> lines.</summary>
internal sealed class UnsupervisedLink(RankEnvironment rank) : SupervisorLink(rank)
{
    private protected override void Send(ControlMessage message)
    {
        var line = message switch
        {
            InfoMessage info => Invariant(
                $"world_size={Rank.WorldSize} mesh=\"{info.Mesh}\" parameters={info.ParametersTotal} active={info.ParametersActive} from_step={info.FirstStep}"),
            MetricsMessage metrics => string.Join(' ', metrics.Row.Where(entry => entry.Key != TrainingLoop.TimeKey).Select(entry => Invariant($"{entry.Key}={entry.Value:G6}"))),
            KernelsMessage { Report: var report } => string.Join('\n', report.Kernels.Select(kernel => Invariant(
                $"kernel=\"{kernel.Name}\" shape=\"{kernel.Shape}\" direction={kernel.Direction} ms={kernel.Ms:G6} gb_per_s={kernel.GbPerS:G6} tflops={kernel.Tflops:G6} ceiling={kernel.Ceiling} of_ceiling_pct={kernel.OfCeilingPct:G4}"))),
            EventMessage e => Invariant($"event={e.Kind} step={e.Step} {e.Text}"),
            TextMessage text => text.Line,
            ProfileMessage { Table: var table } => string.Join('\n', table.Lines),
            FailureMessage { Failure: var failure } => Invariant($"failed rank={failure.Rank} step={failure.Step}: {failure.What}"),
            _ => null, // hello and goodbye have nobody to reach
        };
        if (line is not null)
        {
            Console.WriteLine(line);
        }
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
