using System.Globalization;
using Moe.Torch;

namespace Moe.Training.Configuration;

/// <summary>Which optimizer steps what, as <c>config show</c> prints it below the configuration: comments, so that the whole stays YAML.</summary>
public static class AssignmentTable
{
    /// <param name="config">Checked.</param>
    public static string Write(RunConfig config)
    {
        var lines = new OptimizerAssignment(ModelAssembly.Options(config.Model), config.Optimizer).Lines.ToList();
        var width = lines.Max(line => line.Pattern.Length);
        var most = lines.Max(line => Name(line).Length);
        return "\n# what steps which parameters:\n" + string.Concat(lines.Select(line =>
        {
            var decay = line.Parameters[0].Kind == ParameterKind.Norm ? 0 : line.Choice.WeightDecay;
            return string.Create(
                CultureInfo.InvariantCulture,
                $"#   {line.Pattern.PadRight(width)}  -> {Name(line).PadRight(most)}  learning_rate {line.Choice.LearningRate:R}"
                + $"  weight_decay {decay:R}  {line.Parameters.Count} of [{string.Join(", ", line.Parameters[0].Shape)}]\n");
        }));
    }

    private static string Name(AssignedParameters line) =>
        (line.Precondition == Precondition.None ? "" : ConfigChoices.Spelling(line.Precondition) + " over ") + ConfigChoices.Spelling(line.Choice.Optimizer);
}
