using System.Text;
using Moe.Training.Configuration;
using NUnit.Framework;
using static Moe.Tests.Configuration.ConfigurationFolder;

namespace Moe.Tests.Configuration;

internal sealed class ConfigurationReaderTests
{
    private ConfigurationFolder _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = new ConfigurationFolder();

    [TearDown]
    public void RemoveFolder() => _folder.Dispose();

    [Test]
    public void Child_overrides_its_parent_key_by_key_and_options_override_both()
    {
        _folder.Write("base/parent.yaml", "model:\n  layers: 6\n  width: 64\n  moe: {experts: 8, top_k: 3}\ndata: {domains: [{name: p, path: p.txt}]}\n");
        var child = _folder.Write("child.yaml", "extends: base/parent.yaml\nmodel:\n  width: 96\n  moe:\n    top_k: 1\n");

        var read = ConfigReader.Read(child, ["model.moe.top_k=4", "model.moe={expert_width: 32}"]);

        Assert.That(read.Config.Model, Is.EqualTo(new ModelConfig { Layers = 6, Width = 96, Moe = new() { Experts = 8, TopK = 4, ExpertWidth = 32 } }));
        Assert.That(read.Config.Run.Name, Is.EqualTo("child"));
        var parent = Path.Combine(_folder.Path, "base/parent.yaml");
        Assert.That(read.Config.Data.Domains.Single().Path, Is.EqualTo(Path.Combine(_folder.Path, "base", "p.txt")), "relative to the file that says it");
        Assert.That(read.Origins["model.layers"].ToString(), Is.EqualTo($"{parent}:2"));
        Assert.That(read.Origins["model.moe.experts"].ToString(), Is.EqualTo($"{parent}:4"));
        Assert.That(read.Origins["model.width"].ToString(), Is.EqualTo($"{child}:3"));
        Assert.That(read.Origins["model.moe.top_k"].ToString(), Is.EqualTo("--set"));
        Assert.That(read.Origins["model.heads"].ToString(), Is.EqualTo("default"));
    }

    [Test]
    public void Lists_are_replaced_as_a_whole()
    {
        _folder.Write("parent.yaml", "data:\n  domains:\n    - {name: a, path: a.txt, weight: 3}\n    - {name: b, path: b.txt, weight: 4}\n");

        var byFile = _folder.Read("extends: parent.yaml\ndata:\n  domains:\n    - {name: c, path: /c.txt}\n");
        var byOption = _folder.Read("extends: parent.yaml", "data.domains=[{name: d, path: /d.txt, weight: 0.5}]");

        Assert.That(byFile.Config.Data.Domains, Is.EqualTo(new ValueList<DomainConfig>[] { [new() { Name = "c", Path = "/c.txt" }] }.Single()));
        Assert.That(byFile.Origins.Keys.Where(k => k.StartsWith("data.domains[", StringComparison.Ordinal)),
            Is.EquivalentTo(new[] { "data.domains[0].name", "data.domains[0].path" }), "no origin of the parent's items is left");
        Assert.That(byOption.Config.Data.Domains.Single(), Is.EqualTo(new DomainConfig { Name = "d", Path = "/d.txt", Weight = 0.5 }));
    }

    [Test]
    public void Every_key_can_be_set_and_its_origin_is_the_option()
    {
        foreach (var key in ConfigSchema.Keys)
        {
            var value = key switch
            {
                { Items: null } => AnotherValue(key),
                { Path: "data.domains" } => "[{name: z, path: /z.txt}]",
                { Path: "optimizer.muon.rows" } => "[{a: 1.5, b: -0.5, c: 0}]",
                { Path: "tracking.tags" } => "[{key: a, value: b}]",
                _ => "[{match: embedding}]",
            };
            var read = ConfigReader.Read(_folder.Write("base.yaml", Base(key.Path)), [$"{key.Path}={value}"]);

            Assert.That(read.Origins[key.Path], Is.EqualTo(ConfigOrigin.Set), key.Path);
            var got = ConfigSchema.Root.Values(read.Config).Single(v => v.Key.Path == key.Path).Value;
            if (key.Items is null)
            {
                Assert.That(got as string ?? ConfigScalar.Write(got), Is.EqualTo(value), key.Path);
            }

            Assert.That(got, key.Type == typeof(TokenizerName) ? Is.EqualTo(key.Default) : Is.Not.EqualTo(key.Default), $"{key.Path}={value}");
            var others = read.Origins.Where(o => o.Key != key.Path && !o.Key.StartsWith("data.domains", StringComparison.Ordinal) && !o.Key.StartsWith(key.Path + "[", StringComparison.Ordinal));
            Assert.That(others.Where(o => o.Value == ConfigOrigin.Set), Is.Empty, key.Path);
        }
    }

    [Test]
    public void Scalars_are_those_of_yaml_1_2()
    {
        var read = _folder.Read("run:\n  name: no\n  seed: 18446744073709551615\noptimizer: {learning_rate: 1e-3, weight_decay: 0}\n"
            + "train: {steps: 0x100, micro_batch: 0o17, clip_norm: .5, stop_at_step: ~, keep_global_batch: FALSE}\nmodel: {query_key_norm: true}\n"
            + "parallel: {threads: null}" + Domains);

        Assert.That(read.Config.Run, Is.EqualTo(new IdentityConfig { Name = "no", Seed = ulong.MaxValue }));
        Assert.That(read.Config.Optimizer, Is.EqualTo(new OptimizerConfig { LearningRate = 0.001, WeightDecay = 0 }));
        Assert.That(read.Config.Train, Is.EqualTo(new TrainConfig { Steps = 256, MicroBatch = 15, ClipNorm = 0.5, KeepGlobalBatch = false }));
    }

    [TestCase("")]
    [TestCase("# only a comment\n")]
    [TestCase("---\n")]
    [TestCase("model:\ntrain: ~\n")]
    public void File_that_sets_nothing_has_all_defaults(string text)
    {
        var read = _folder.Read(text, "data.domains=[{name: a, path: /a.txt}]");

        Assert.That(read.Config, Is.EqualTo(new RunConfig
        {
            Run = new() { Name = "test" },
            Data = new() { Domains = [new() { Name = "a", Path = "/a.txt" }] },
        }));
    }

    [Test]
    public void Windows_line_ends_and_byte_order_marks_change_nothing()
    {
        var path = _folder.Write("crlf.yaml", "");
        File.WriteAllText(path, "# é\r\nmodel:\r\n  layers: 7\r\n" + Domains.Replace("\n", "\r\n", StringComparison.Ordinal), new UTF8Encoding(true));

        var read = ConfigReader.Read(path, []);

        Assert.That(read.Config.Model.Layers, Is.EqualTo(7));
        Assert.That(read.Origins["model.layers"], Is.EqualTo(new ConfigOrigin(path, 3, 3)));
    }

    [Test]
    public void Key_without_effect_earns_a_warning_where_it_stands()
    {
        var read = _folder.Read("optimizer:\n  momentum: 0.5\nbalance:\n  scope: micro\n  accumulation: exact\nmodel: {moe: {drop_policy: position}}" + Domains);

        Assert.That(read.Warnings.Select(w => (w.Key, w.Origin.Line)), Is.EquivalentTo(new[]
        {
            ("optimizer.momentum", 2), ("balance.accumulation", 5), ("model.moe.drop_policy", 6),
        }));
        Assert.That(read.Warnings[0].ToString(), Does.Contain("balance.accumulation exact has no effect").Or.Contain("drop_policy position has no effect"));
    }

    [Test]
    public void Megabyte_on_one_line_is_read_or_refused_quickly()
    {
        var long_ = new string('9', 1 << 20);

        Assert.That(_folder.Read($"# {long_}\n" + Domains).Config.Train.Steps, Is.EqualTo(500));
        foreach (var text in new[] { $"train: {{steps: {long_}}}", $"{long_}: 1", $"model: {{x{long_}: 1}}", $"run: {{name: {long_}}}", $"optimizer: {{learning_rate: {long_}}}" })
        {
            Assert.That(_folder.Refuse(text + Domains).Sum(f => f.ToString().Length), Is.LessThan(1000), "the message doesn't repeat the value");
        }
    }

    /// <summary>A file in which setting <paramref name="path"/> alone breaks no rule.</summary>
    private static string Base(string path) => path switch
    {
        "optimizer.experts_in_backward" => "train: {clip_norm: 0}" + Domains,
        "optimizer.nesterov" => "optimizer: {name: sgd}" + Domains,
        "optimizer.muon.table" => "optimizer: {muon: {rows: [{a: 1.5, b: -0.5, c: 0}]}}" + Domains,
        "model.head_width" or "model.heads" or "model.width" => "model: {heads: 1}" + Domains,
        "data.eval_fraction" => "train: {eval_every: 0}" + Domains,
        "train.offload" => "parallel: {device: cuda}" + Domains,
        "train.graph_capture" => "parallel: {device: cuda}\ntrain: {precision: bfloat16}" + Domains,
        "train.weights" => "train: {precision: bfloat16}" + Domains,
        "schedule.name" => "schedule: {file: /schedule.json}" + Domains,
        "model.vocabulary" => Domains,
        _ => Domains,
    };

    private static string AnotherValue(ConfigKey key) => key.Path switch
    {
        "run.name" => "other",
        "model.heads" => "8",
        "model.key_value_heads" => "2",
        "model.width" or "model.head_width" => "64",
        "model.vocabulary" => "512",
        "schedule.file" => "/schedule.json",
        "tracking.mlflow" => "http://other:5000",
        "train.memory_budget" => "60GiB",
        "train.stop_at_step" => "7",
        "train.steps" => "400",
        _ when key.Type.IsEnum => ConfigChoices.Of(key.Type).Last(c => ConfigChoices.Of(key.Type).Count() == 1 || c != ConfigScalar.Write(key.Default)),
        _ when key.Type == typeof(bool) => key.Default is true ? "false" : "true",
        _ when key.Type == typeof(double) => double.IsNaN(key.Setting.Below) && double.IsNaN(key.Setting.AtMost) ? "2.5" : key.Setting.Above >= 1 ? "3" : "0.25",
        _ => "3",
    };
}
