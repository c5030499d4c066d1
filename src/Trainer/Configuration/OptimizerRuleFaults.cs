using Moe.Models;

namespace Moe.Training.Configuration;

/// <summary>What is wrong with <c>optimizer.rules</c> beside this model.</summary>
internal static class OptimizerRuleFaults
{
    /// <param name="config">Its model and its keys are in range.</param>
    /// <param name="origins">Places of the keys that were set.</param>
    public static IEnumerable<ConfigFault> Of(RunConfig config, IReadOnlyDictionary<string, ConfigOrigin> origins)
    {
        if (config.Optimizer.Rules.Count == 0)
        {
            return [];
        }

        var assignment = new OptimizerAssignment(ModelAssembly.Options(config.Model), config.Optimizer);
        var taken = assignment.Parameters.ToLookup(parameter => config.Optimizer.Rules.Index()
            .FirstOrDefault(rule => OptimizerAssignment.IsAbout(rule.Item, parameter.Key, parameter.Kind), (-1, null!)).Index);
        return config.Optimizer.Rules.Index().Select(place =>
        {
            var path = $"optimizer.rules[{place.Index}]";
            var origin = origins.Where(key => key.Key.StartsWith(path + ".", StringComparison.Ordinal))
                .Select(key => key.Value).OrderBy(value => (value.Line, value.Column))
                .FirstOrDefault(origins.GetValueOrDefault("optimizer.rules", ConfigOrigin.Default));
            return Fault(place.Item, path, origin, [.. taken[place.Index]], assignment);
        }).OfType<ConfigFault>();
    }

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

    private static string Nearest(OptimizerRule rule, IEnumerable<ParameterDescription> parameters)
    {
        var patterns = parameters.Where(parameter => rule.Kind is null || parameter.Kind == rule.Kind).Select(parameter => OptimizerAssignment.Pattern(parameter.Key)).Distinct().ToList();
        return patterns.Count == 0
            ? $"its kinds are {string.Join(", ", parameters.Select(parameter => ConfigChoices.Spelling(parameter.Kind)).Distinct())}"
            : $"the nearest is {patterns.MinBy(pattern => NearestKey.Distance(pattern, rule.Match))}; launch config show lists all";
    }
}
