using System.IO.Enumeration;
using Moe.Models;
using Moe.Torch;

namespace Moe.Training.Configuration;

/// <summary>How a parameter is stepped. Parameters with equal ways are one group.</summary>
/// <param name="Optimizer">Its rule.</param>
/// <param name="LearningRate">Peak.</param>
/// <param name="WeightDecay">As configured; optimizers leave norms out by themselves.</param>
public sealed record OptimizerChoice(OptimizerName Optimizer, double LearningRate, double WeightDecay);

/// <summary>Parameters of the same name up to their layer and expert, stepped in the same way.</summary>
/// <param name="Pattern">Their keys, numbers that don't matter as <c>*</c>.</param>
/// <param name="Parameters">Each of them.</param>
/// <param name="Choice">How they are stepped.</param>
/// <param name="Precondition">What turns their gradients before.</param>
public sealed record AssignedParameters(string Pattern, IReadOnlyList<ParameterDescription> Parameters, OptimizerChoice Choice, Precondition Precondition);

/// <summary>Which optimizer steps which logical parameter: the first rule of <c>optimizer.rules</c> that is about it, else the references' defaults.</summary>
/// <remarks>
/// Muon and Drop-Muon are for hidden matrices; embedding, head and vectors go to AdamW (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/),
/// the router to Muon, as in Moonlight (https://arxiv.org/abs/2502.16982). A function of the configuration alone, so that all ranks agree.
/// </remarks>
/// <param name="model">The model's shape.</param>
/// <param name="optimizer">The section <c>optimizer</c>.</param>
public sealed class OptimizerAssignment(TransformerOptions model, OptimizerConfig optimizer)
{
    /// <summary>Every parameter of the model, in its order.</summary>
    public IReadOnlyList<ParameterDescription> Parameters { get; } = [.. ParameterDescription.Of(model)];

    /// <summary>The ways in which this model is stepped, in the order of their first parameter; the same on every rank, whatever part it holds.</summary>
    public IReadOnlyList<OptimizerChoice> Choices => [.. Parameters.Select(Of).Distinct()];

    /// <summary>For people: as few lines as say it exactly.</summary>
    public IEnumerable<AssignedParameters> Lines => Compact(Parameters, parameter => (Of(parameter), PreconditionOf(parameter)), 0)
        .Select(alike => new AssignedParameters(alike.Pattern, alike.Members, Of(alike.Members[0]), PreconditionOf(alike.Members[0])));

    /// <summary>For checkpoints: name of the optimizer by pattern; <see cref="Moved"/> reads it.</summary>
    public IReadOnlyDictionary<string, string> Names => Compact(Parameters, NameOf, 0).ToDictionary(alike => alike.Pattern, alike => NameOf(alike.Members[0]));

    /// <summary>Whether an optimizer has a rule for matrices only.</summary>
    public static bool NeedsMatrix(OptimizerName name) => name is OptimizerName.Muon or OptimizerName.DropMuon;

    /// <summary>Whether a pattern of <c>optimizer.rules</c> or <c>optimizer.mkor.skip</c> is about a key.</summary>
    internal static bool Matches(string pattern, string key) => FileSystemName.MatchesSimpleExpression(pattern, key, ignoreCase: false);

    /// <summary>How a parameter is stepped.</summary>
    public OptimizerChoice Of(ParameterDescription parameter) => Of(parameter.Key, parameter.Kind, parameter.IsVector);

    /// <inheritdoc cref="Of(ParameterDescription)"/>
    public OptimizerChoice Of(string key, ParameterKind kind, bool isVector)
    {
        var rule = optimizer.Rules.FirstOrDefault(rule => IsAbout(rule, key, kind));
        var isHidden = !isVector && kind is not (ParameterKind.Embedding or ParameterKind.Head or ParameterKind.Norm);
        var name = rule?.Optimizer ?? (NeedsMatrix(optimizer.Name) && !isHidden ? OptimizerName.AdamW : optimizer.Name);
        var rate = NeedsMatrix(optimizer.Name) && !NeedsMatrix(name) ? optimizer.AuxiliaryLearningRate : null;
        return new OptimizerChoice(name, rule?.LearningRate ?? rate ?? optimizer.LearningRate, rule?.WeightDecay ?? optimizer.WeightDecay);
    }

    /// <summary>Parameters that another assignment gave to another optimizer.</summary>
    /// <param name="names">The other's <see cref="Names"/>.</param>
    /// <returns>Pattern, optimizer there, and optimizer here; empty where both agree.</returns>
    public IEnumerable<(string Pattern, string From, string To)> Moved(IReadOnlyDictionary<string, string> names)
    {
        string Earlier(ParameterDescription parameter) => Patterns(parameter.Key).Select(names.GetValueOrDefault).FirstOrDefault(name => name is not null) ?? "none";
        return Compact(Parameters, parameter => (From: Earlier(parameter), To: NameOf(parameter)), 0)
            .Select(alike => (alike.Pattern, From: Earlier(alike.Members[0]), To: NameOf(alike.Members[0])))
            .Where(line => line.From != line.To);
    }

    /// <summary>Whether a rule is about a parameter, if no earlier one is.</summary>
    internal static bool IsAbout(OptimizerRule rule, string key, ParameterKind kind) =>
        (rule.Kind is null || rule.Kind == kind) && Matches(rule.Match, key);

    /// <summary>A key with <c>*</c> in the place of its numbers, except the first so many.</summary>
    internal static string Pattern(string key, int numbersKept = 0) => string.Join('.', key.Split('.').Select(segment =>
        !segment.All(char.IsAsciiDigit) || numbersKept-- > 0 ? segment : "*"));

    private static IEnumerable<string> Patterns(string key) => Enumerable.Range(0, key.Split('.').Length).Select(kept => Pattern(key, kept)).Distinct();

    private Precondition PreconditionOf(ParameterDescription parameter) =>
        parameter.Kind is ParameterKind.Matrix or ParameterKind.Expert && !optimizer.Mkor.Skip.Any(skip => Matches(skip.Match, parameter.Key))
            ? optimizer.Precondition
            : Precondition.None;

    private string NameOf(ParameterDescription parameter) => ConfigChoices.Spelling(Of(parameter).Optimizer);

    // Where a pattern's parameters differ, their layers are told apart, then their experts; a whole key differs from none.
    private static IEnumerable<(string Pattern, List<ParameterDescription> Members)> Compact<T>(
        IEnumerable<ParameterDescription> parameters, Func<ParameterDescription, T> way, int numbersKept) =>
        from alike in parameters.GroupBy(parameter => Pattern(parameter.Key, numbersKept))
        let members = alike.ToList()
        from line in members.Select(way).Distinct().Count() == 1 ? [(alike.Key, members)] : Compact(members, way, numbersKept + 1)
        select line;
}
