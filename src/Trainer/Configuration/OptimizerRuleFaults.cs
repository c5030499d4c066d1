using Moe.Models;
using Moe.Optimizers;
using Moe.Torch;

namespace Moe.Training.Configuration;

/// <summary>What is wrong with <c>optimizer.rules</c> and <c>optimizer.mkor.skip</c> beside this model.</summary>
internal static class OptimizerRuleFaults
{
    /// <param name="config">Its model and its keys are in range.</param>
    /// <param name="origins">Places of the keys that were set.</param>
    public static IEnumerable<ConfigFault> Of(RunConfig config, IReadOnlyDictionary<string, ConfigOrigin> origins)
    {
        if (config.Optimizer is { Rules.Count: 0, Mkor.Skip.Count: 0 })
        {
            return [];
        }

        var assignment = new OptimizerAssignment(ModelAssembly.Options(config.Model), config.Optimizer);
        var taken = assignment.Parameters.ToLookup(parameter => config.Optimizer.Rules.Index()
            .FirstOrDefault(rule => OptimizerAssignment.IsAbout(rule.Item, parameter.Key, parameter.Kind), (-1, null!)).Index);
        var rules = config.Optimizer.Rules.Index().Select(place =>
            Fault(place.Item, $"optimizer.rules[{place.Index}]", Origin("optimizer.rules", place.Index, origins), [.. taken[place.Index]], assignment));
        var matrices = assignment.Parameters.Where(parameter => parameter.Kind is ParameterKind.Matrix or ParameterKind.Expert).ToList();
        var skips = config.Optimizer.Precondition == Precondition.None ? [] : config.Optimizer.Mkor.Skip.Index().Select(place =>
            SkipFault(place.Item.Match, $"optimizer.mkor.skip[{place.Index}]", Origin("optimizer.mkor.skip", place.Index, origins), matrices));
        return rules.Concat(skips).OfType<ConfigFault>();
    }

    /// <summary>The largest share of a weight that decay alone takes in a step at the peak; LAMB's and LARS's decay is part of a step whose length the weights set.</summary>
    /// <param name="optimizer">Its keys are in range.</param>
    public static double LargestDecay(OptimizerConfig optimizer)
    {
        double Share(OptimizerName name, double rate, double decay) => name is OptimizerName.Lamb or OptimizerName.Lars ? 0 : optimizer.Decay switch
        {
            DecayForm.Decoupled => rate * decay,
            DecayForm.Fixed => decay,
            _ => 0,
        };
        return optimizer.Rules
            .Select(rule => Share(rule.Optimizer ?? optimizer.Name, rule.LearningRate ?? optimizer.LearningRate, rule.WeightDecay ?? optimizer.WeightDecay))
            .Append(Share(optimizer.Name, optimizer.LearningRate, optimizer.WeightDecay))
            .Append(OptimizerAssignment.NeedsMatrix(optimizer.Name)
                ? Share(OptimizerName.AdamW, optimizer.AuxiliaryLearningRate ?? optimizer.LearningRate, optimizer.WeightDecay)
                : 0)
            .Max();
    }

    private static ConfigOrigin Origin(string list, int index, IReadOnlyDictionary<string, ConfigOrigin> origins) => origins
        .Where(key => key.Key.StartsWith(FormattableString.Invariant($"{list}[{index}]."), StringComparison.Ordinal))
        .Select(key => key.Value).OrderBy(value => (value.Line, value.Column))
        .FirstOrDefault(origins.GetValueOrDefault(list, ConfigOrigin.Default));

    private static ConfigFault? SkipFault(string match, string path, ConfigOrigin origin, List<ParameterDescription> matrices) =>
        matrices.Exists(matrix => OptimizerAssignment.Matches(match, matrix.Key))
            ? null
            : new ConfigFault(origin, path, $"{path} (match: {match}) matches no matrix that MKOR preconditions", Nearest(match, matrices));

    private static ConfigFault? Fault(
        OptimizerRule rule, string path, ConfigOrigin origin, List<ParameterDescription> parameters, OptimizerAssignment assignment)
    {
        if (parameters.Count == 0)
        {
            var isLate = assignment.Parameters.Any(parameter => OptimizerAssignment.IsAbout(rule, parameter.Key, parameter.Kind));
            return isLate
                ? new ConfigFault(origin, path, $"{path} ({Show(rule)}) comes too late: earlier rules are about all that it matches", "put it before them; the first match wins")
                : new ConfigFault(origin, path, $"{path} ({Show(rule)}) matches no parameter of this model", Nearest(rule, assignment.Parameters));
        }

        return parameters.FirstOrDefault(parameter => parameter.IsVector && OptimizerAssignment.NeedsMatrix(assignment.Of(parameter).Optimizer)) is { } vector
            ? new ConfigFault(
                origin,
                path,
                $"{path} ({Show(rule)}) gives {vector.Key}, a vector of {vector.Shape[0]}, to {ConfigChoices.Spelling(assignment.Of(vector).Optimizer)}, which steps matrices",
                "name a kind or match that leaves vectors out, or an earlier rule with optimizer: adamw for them")
            : null;
    }

    private static string Show(OptimizerRule rule) =>
        rule.Kind is null ? $"match: {rule.Match}" : $"match: {rule.Match}, kind: {ConfigChoices.Spelling(rule.Kind)}";

    private static string Nearest(OptimizerRule rule, IReadOnlyList<ParameterDescription> parameters) =>
        parameters.Where(parameter => rule.Kind is null || parameter.Kind == rule.Kind).ToList() is { Count: > 0 } alike
            ? Nearest(rule.Match, alike)
            : $"its kinds are {string.Join(", ", parameters.Select(parameter => ConfigChoices.Spelling(parameter.Kind)).Distinct())}";

    private static string Nearest(string match, IEnumerable<ParameterDescription> parameters) =>
        $"the nearest is {parameters.Select(parameter => OptimizerAssignment.Pattern(parameter.Key)).Distinct().MinBy(pattern => NearestKey.Distance(pattern, match))}; launch config show lists all";
}
