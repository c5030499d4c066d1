using Moe.Tests.Torch;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Configuration;
using NUnit.Framework;
using static Moe.Tests.Configuration.ConfigurationFolder;

namespace Moe.Tests.Configuration;

/// <summary>Which optimizer steps which parameter, and what is refused before any rank starts.</summary>
internal sealed class OptimizerRuleTests
{
    private static readonly ModelConfig Model = new() { Layers = 3, DenseLayers = 1, QueryKeyNorm = true, Moe = new() { Experts = 4, SharedExperts = 1 } };

    [TestCase("embedding", ParameterKind.Embedding, false, OptimizerName.AdamW)]
    [TestCase("head", ParameterKind.Head, false, OptimizerName.AdamW)]
    [TestCase("final_norm", ParameterKind.Norm, true, OptimizerName.AdamW)]
    [TestCase("layers.1.attention.query_norm", ParameterKind.Norm, true, OptimizerName.AdamW)]
    [TestCase("layers.1.moe.router", ParameterKind.Router, false, OptimizerName.Muon)]
    [TestCase("layers.1.attention.query", ParameterKind.Matrix, false, OptimizerName.Muon)]
    [TestCase("layers.1.moe.experts.3.down", ParameterKind.Expert, false, OptimizerName.Muon)]
    public void Muon_leaves_what_is_no_hidden_matrix_to_adamw(string key, ParameterKind kind, bool isVector, OptimizerName expected)
    {
        var choice = Assign(new() { Name = OptimizerName.Muon, LearningRate = 0.02, AuxiliaryLearningRate = 0.003 }).Of(key, kind, isVector);

        Assert.That(choice.Optimizer, Is.EqualTo(expected));
        Assert.That(choice.LearningRate, Is.EqualTo(expected == OptimizerName.Muon ? 0.02 : 0.003));
    }

    [Test]
    public void Other_optimizers_take_everything([Values(OptimizerName.AdamW, OptimizerName.Sgd)] OptimizerName name) =>
        Assert.That(Assign(new() { Name = name }).Choices, Is.EqualTo(new[] { new OptimizerChoice(name, 1e-3, 0.1) }));

    [Test]
    public void First_rule_about_a_parameter_counts_and_says_only_what_it_changes()
    {
        var assignment = Assign(new()
        {
            Name = OptimizerName.Muon,
            Rules =
            [
                new() { Kind = ParameterKind.Router, Optimizer = OptimizerName.AdamW },
                new() { Match = "layers.*.attention.key", LearningRate = 0.5 },
                new() { Match = "layers.2.*", Kind = ParameterKind.Matrix, Optimizer = OptimizerName.Sgd, WeightDecay = 0 },
            ],
        });

        Assert.That(assignment.Of("layers.1.moe.router", ParameterKind.Router, false), Is.EqualTo(new OptimizerChoice(OptimizerName.AdamW, 1e-3, 0.1)));
        Assert.That(assignment.Of("layers.2.attention.key", ParameterKind.Matrix, false), Is.EqualTo(new OptimizerChoice(OptimizerName.Muon, 0.5, 0.1)));
        Assert.That(assignment.Of("layers.2.attention.query", ParameterKind.Matrix, false), Is.EqualTo(new OptimizerChoice(OptimizerName.Sgd, 1e-3, 0)));
        Assert.That(assignment.Of("layers.1.attention.query", ParameterKind.Matrix, false), Is.EqualTo(new OptimizerChoice(OptimizerName.Muon, 1e-3, 0.1)));
        Assert.That(assignment.Of("layers.2.attention_norm", ParameterKind.Norm, true).Optimizer, Is.EqualTo(OptimizerName.AdamW));
    }

    [Test]
    public void Lines_say_the_whole_assignment_exactly_whatever_the_rules()
    {
        var random = FreshRandom.Create();
        string[] matches = ["*", "layers.*", "layers.1.*", "*.query", "layers.*.moe.experts.?.gate", "layers.2.moe.experts.3.*", "*.attention.*", "head"];
        for (var trial = 0; trial < 50; trial++)
        {
            var assignment = Assign(new()
            {
                Rules = [.. Enumerable.Range(0, random.Next(4)).Select(_ => new OptimizerRule
                {
                    Match = matches[random.Next(matches.Length)],
                    Kind = random.Next(2) == 0 ? null : (ParameterKind)random.Next(6),
                    Optimizer = (OptimizerName)random.Next(2),
                    WeightDecay = random.Next(2),
                })],
            });

            var said = assignment.Lines.SelectMany(line => line.Parameters.Select(parameter => (parameter.Key, line.Choice))).ToList();
            Assert.That(said, Is.EquivalentTo(assignment.Parameters.Select(parameter => (parameter.Key, assignment.Of(parameter)))));
            Assert.That(assignment.Lines.Select(line => line.Pattern), Is.Unique);
            Assert.That(assignment.Moved(assignment.Names), Is.Empty);
        }
    }

    [Test]
    public void Table_says_which_matrices_are_preconditioned()
    {
        var config = new RunConfig
        {
            Optimizer = new()
            {
                Precondition = Precondition.Mkor,
                Mkor = new() { Skip = [new() { Match = "layers.0.attention.*" }] },
                Rules = [new() { Kind = ParameterKind.Expert, Optimizer = OptimizerName.Lamb }],
            },
        };

        var lines = AssignmentTable.Write(config).Split('\n')
            .Where(line => line.Contains("->", StringComparison.Ordinal))
            .Select(line => string.Join(' ', line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1..6])).ToList();
        Assert.That(lines, Has.Member("layers.0.attention.query -> adamw learning_rate 0.001").And.Member("layers.1.attention.query -> mkor over adamw"));
        Assert.That(lines, Has.Member("layers.*.moe.experts.*.gate -> mkor over lamb").And.Member("layers.*.moe.router -> adamw learning_rate 0.001"));
    }

    [Test]
    public void Moved_parameters_are_named_by_the_shortest_pattern()
    {
        var before = Assign(new() { Rules = [new() { Match = "layers.1.moe.experts.2.*", Optimizer = OptimizerName.Sgd }] });
        var after = Assign(new() { Rules = [new() { Kind = ParameterKind.Router, Optimizer = OptimizerName.Sgd }] });

        Assert.That(after.Moved(before.Names), Is.EquivalentTo(new[]
        {
            ("layers.*.moe.router", "adamw", "sgd"),
            ("layers.1.moe.experts.2.gate", "sgd", "adamw"),
            ("layers.1.moe.experts.2.up", "sgd", "adamw"),
            ("layers.1.moe.experts.2.down", "sgd", "adamw"),
        }));
    }

    [Test]
    public void All_faults_of_rules_are_told_at_once_each_at_its_line()
    {
        using var folder = new ConfigurationFolder();

        var faults = folder.Refuse("""
            optimizer:
              name: adamw
              rules:
                - match: layers.*.attention.qeury
                  optimizer: sgd
                - kind: head
                  optimizer: sgd
                - match: head
                  learning_rate: 0.1
                - optimizer: muon
            model:
              tie_embeddings: false
            """ + Domains);

        Assert.That(faults.Select(fault => fault.Origin.Line), Is.EqualTo(new[] { 4, 8, 10 }));
        Assert.That(faults[0].ToString(), Does.Contain("matches no parameter").And.Contain("the nearest is layers.*.attention.query"));
        Assert.That(faults[1].ToString(), Does.Contain("optimizer.rules[2]").And.Contain("comes too late"));
        Assert.That(faults[2].ToString(), Does.Contain("gives layers.0.attention_norm, a vector of 128, to muon, which steps matrices"));
    }

    [Test]
    public void Kind_that_the_model_lacks_is_refused_with_those_it_has()
    {
        using var folder = new ConfigurationFolder();

        var fault = folder.Refuse("optimizer: {rules: [{kind: head, optimizer: sgd}]}\nmodel: {tie_embeddings: true, dense_layers: 4}" + Domains).Single();

        Assert.That(fault.Origin.Line, Is.EqualTo(1));
        Assert.That(fault.Remedy, Is.EqualTo("its kinds are embedding, norm, matrix"));
    }

    [TestCase("optimizer.name=adamv", "optimizer.name is adamv (did you mean adamw?); it takes one of adamw, sgd")]
    [TestCase("optimizer.learning_rate=0", "optimizer.learning_rate is 0; it takes a number above 0")]
    [TestCase("optimizer.learning_rate=-1e-3", "optimizer.learning_rate is -0.001")]
    [TestCase("optimizer.learning_rate=.inf", "optimizer.learning_rate is .inf; it takes a finite number")]
    [TestCase("optimizer.auxiliary_learning_rate=0", "optimizer.auxiliary_learning_rate is 0; it takes a number above 0 to 1000, or null")]
    [TestCase("optimizer.weight_decay=-0.1", "optimizer.weight_decay is -0.1; it takes a number of at least 0")]
    [TestCase("optimizer.beta1=1", "optimizer.beta1 is 1; it takes a number from 0 below 1")]
    [TestCase("optimizer.beta2=-0.1", "optimizer.beta2 is -0.1; it takes a number from 0 below 1")]
    [TestCase("optimizer.momentum=1", "optimizer.momentum is 1; it takes a number from 0 below 1, or null")]
    [TestCase("optimizer.epsilon=0", "optimizer.epsilon is 0; it takes a number above 0, or null")]
    [TestCase("optimizer.decay=copled", "optimizer.decay is copled (did you mean coupled?); it takes one of decoupled, coupled, fixed")]
    [TestCase("optimizer.idle=skipp", "optimizer.idle is skipp (did you mean skip?); it takes one of skip, reference")]
    [TestCase("optimizer.weigth_decay=0", "optimizer.weigth_decay is not a key; did you mean optimizer.weight_decay?")]
    [TestCase("optimizer.rules=[{optimizer: moun}]", "optimizer.rules[0].optimizer is moun (did you mean muon?)")]
    [TestCase("optimizer.rules=[{learning_rate: 0}]", "optimizer.rules[0].learning_rate is 0; it takes a number above 0 to 1000, or null")]
    [TestCase("optimizer.rules=[{weight_decay: -1}]", "optimizer.rules[0].weight_decay is -1; it takes a number of at least 0, or null")]
    [TestCase("optimizer.rules=[{kind: experts}]", "optimizer.rules[0].kind is experts (did you mean expert?); it takes one of embedding, head, norm, router, matrix, expert")]
    public void Bad_value_is_refused_with_what_it_takes(string option, string message)
    {
        using var folder = new ConfigurationFolder();

        Assert.That(folder.Refuse(Domains, option).Select(fault => fault.ToString()), Has.Some.Contains(message));
    }

    [Test]
    public void Bad_values_in_a_file_are_told_with_their_lines()
    {
        using var folder = new ConfigurationFolder();

        var faults = folder.Refuse("optimizer:\n  learning_rate: 0\n  beta1: 1.5\n  name: adamm\n  weight_decay: -1" + Domains);

        Assert.That(faults.Select(fault => (fault.Key, fault.Origin.Line)), Is.EqualTo(new[]
        {
            ("optimizer.learning_rate", 2), ("optimizer.beta1", 3), ("optimizer.name", 4), ("optimizer.weight_decay", 5),
        }));
    }

    [Test]
    public void Key_of_an_optimizer_that_only_a_rule_names_has_an_effect()
    {
        using var folder = new ConfigurationFolder();

        Assert.That(folder.Read("optimizer: {name: sgd, beta1: 0.8}" + Domains).Warnings, Has.Count.EqualTo(1));
        Assert.That(folder.Read("optimizer: {name: sgd, beta1: 0.8, rules: [{kind: head, optimizer: adamw}]}" + Domains).Warnings, Is.Empty);
    }

    [Test]
    public void Drop_muon_by_a_rule_earns_a_warning_since_it_leaves_out_whole_layers()
    {
        using var folder = new ConfigurationFolder();
        Assert.That(
            folder.Read("optimizer: {name: adamw, rules: [{kind: expert, optimizer: drop_muon}]}" + Domains).Warnings.Select(warning => warning.What),
            Has.One.Contains("leaves whole layers out"));
        Assert.That(folder.Read("optimizer: {name: drop_muon}" + Domains).Warnings.Select(warning => warning.What), Has.None.Contains("leaves whole layers out"));
    }

    [Test]
    public void Rules_survive_the_run_folder()
    {
        using var folder = new ConfigurationFolder();
        var read = folder.Read("optimizer: {rules: [{match: 'layers.?.*', kind: expert, optimizer: sgd}, {kind: head, learning_rate: 1e-4}]}" + Domains).Config;

        Assert.That(folder.Read(ConfigYaml.Write(read)).Config.Optimizer, Is.EqualTo(read.Optimizer));
    }

    private static OptimizerAssignment Assign(OptimizerConfig optimizer) => new(ModelAssembly.Options(Model), optimizer);
}
