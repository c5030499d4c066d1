using System.CommandLine;
using System.Globalization;
using Moe.Launch.Checks;
using Moe.Launch.Terminal;
using Moe.Training;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Launch.Commands;

/// <summary><c>launch schedule</c>: the learning rate's course, as configured, or refined from a finished run.</summary>
internal static class ScheduleCommand
{
    private const int Width = 64;

    // What the authors of the refinement took for their plots and runs.
    private const double DefaultSmooth = 0.1;

    public static Command Create(LaunchHost host)
    {
        var command = new Command("schedule", "The learning rate over a run.");
        command.Subcommands.Add(Show(host));
        command.Subcommands.Add(Refine(host));
        return command.WithExamples("launch schedule show --config my.yaml", "launch schedule refine --run runs/mine -o refined.json");
    }

    private static Command Show(LaunchHost host)
    {
        var (config, set) = (RunOptions.ConfigOption(), RunOptions.SetOption());
        var show = new Command("show", "Prints the learning rate at some steps, and its course as a line of blocks.") { config, set };
        show.SetAction(result =>
        {
            var resolved = ConfigReader.Read(DefaultConfig.Resolve(result.GetValue(config), host), result.GetValue(set) ?? []);
            if (ScheduleCheck.Faults(resolved) is [_, ..] faults)
            {
                throw new ConfigException(faults);
            }

            var (schedule, steps) = (ModelAssembly.Schedule(resolved.Config), resolved.Config.Train.Steps);
            var warmup = Math.Min(schedule.WarmupSteps + 1, steps);
            foreach (var step in new[] { 1, warmup, 1 + steps / 4, 1 + steps / 2, 1 + steps * 3L / 4, steps }.Where(step => step <= steps).Distinct().Order())
            {
                host.Screen.Output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"step={step} learning_rate={schedule.At(step - 1):G6}"));
            }

            host.Screen.Output.WriteLine(Draw(place => schedule.At((long)Math.Round(place * (steps - 1))), schedule.Peak, host.Screen.Glyphs));
            return ExitCodes.Done;
        });
        return show.WithExamples("launch schedule show", "launch schedule show --config my.yaml --set schedule.name=wsd");
    }

    private static Command Refine(LaunchHost host)
    {
        var run = new Option<string>("--run") { Description = "Folder of a finished run, whose gradient norms are read.", HelpName = "DIR", Required = true };
        var output = new Option<string?>("--output", "-o") { Description = "The file to write. Default: schedule.json in the working directory.", HelpName = "FILE" };
        var smooth = OptionValues.Number("--smooth", "Width of the median filter over the norms, as a share of the run.", "FRACTION", DefaultSmooth, 0, 1);
        var refine = new Command("refine", "Computes the schedule that a finished run's gradient norms ask for.") { run, output, smooth };
        refine.SetAction(result =>
        {
            var file = Refined(RunArgument.Find(result.GetRequiredValue(run), host, "config.yaml"), result.GetValue(smooth));
            var path = OutputArgument.Write(result.GetValue(output) ?? ScheduleFile.FileName, file.ToJson(), host);
            var curve = file.Curve();
            host.Screen.Output.WriteLine(Draw(place => curve.At((long)Math.Round(place * (file.Steps - 1)), file.Steps), 1, host.Screen.Glyphs));
            host.Screen.Output.WriteLine($"schedule={host.Shorten(path)} steps={file.Steps}");
            host.Screen.Error.WriteLine($"for a new run: --set schedule.name=refined --set schedule.file={host.Shorten(path)}");
            return ExitCodes.Done;
        });
        return refine.WithExamples("launch schedule refine --run runs/mine", "launch schedule refine --run runs/mine -o refined.json --smooth 0.05");
    }

    private static ScheduleFile Refined(RunFolder folder, double smooth)
    {
        try
        {
            return ScheduleRefinement.Of(folder, smooth);
        }
        catch (TrainingException e)
        {
            throw new LaunchException(ExitCodes.Usage, e.Message, "a run that has ended with exit code 0");
        }
    }

    private static string Draw(Func<double, double> at, double peak, Glyphs glyphs) =>
        Sparkline.Draw(Enumerable.Range(0, Width).Select(i => at(i / (Width - 1.0))), 0, peak, glyphs);
}
