using Moe.Training.Configuration;
using NUnit.Framework;
using static Moe.Tests.Configuration.ConfigurationFolder;

namespace Moe.Tests.Configuration;

internal sealed class ConfigurationFaultTests
{
    private ConfigurationFolder _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = new ConfigurationFolder();

    [TearDown]
    public void RemoveFolder() => _folder.Dispose();

    [TestCase("modle: {layers: 2}", 1, "modle is not a key; did you mean model?", TestName = "Misspelt_section_is_refused")]
    [TestCase("model:\n  expers: 2", 2, "did you mean model.moe.experts?", TestName = "Misspelt_key_is_refused")]
    [TestCase("model:\n  experts: 8", 2, "did you mean model.moe.experts?", TestName = "Key_at_a_wrong_level_is_refused")]
    [TestCase("\nlearning_rate: 1", 2, "did you mean optimizer.learning_rate?", TestName = "Key_without_its_section_is_refused")]
    [TestCase("train:\n  zzzzzzz: 1", 2, "the keys of train are steps, micro_batch", TestName = "Key_near_to_nothing_lists_the_section")]
    [TestCase("train:\n  steps: many", 2, "train.steps is many; it takes a whole number of at least 1", TestName = "Text_for_a_number_is_refused")]
    [TestCase("train:\n  steps: 1_000", 2, "train.steps is 1_000", TestName = "Underscore_in_a_number_is_refused")]
    [TestCase("train:\n  steps: 1e3", 2, "train.steps is 1e3", TestName = "Real_for_a_whole_number_is_refused")]
    [TestCase("train:\n  steps: '10'", 2, "without quotes", TestName = "Quoted_number_is_refused")]
    [TestCase("train:\n  steps:", 2, "train.steps has no value", TestName = "Missing_value_is_refused")]
    [TestCase("train:\n  steps: 99999999999", 2, "outside of -2147483648 to 2147483647", TestName = "Overflow_is_refused")]
    [TestCase("run:\n  seed: -1", 2, "outside of 0 to 18446744073709551615", TestName = "Negative_seed_is_refused")]
    [TestCase("train:\n  steps: 0", 2, "train.steps is 0; it takes a whole number of at least 1", TestName = "Value_out_of_range_is_refused")]
    [TestCase("optimizer:\n  beta1: 1.0", 2, "optimizer.beta1 is 1; it takes a number from 0 below 1", TestName = "Value_at_an_open_bound_is_refused")]
    [TestCase("optimizer:\n  learning_rate: .nan", 2, "finite", TestName = "NaN_is_refused")]
    [TestCase("optimizer:\n  learning_rate: -.inf", 2, "finite", TestName = "Infinity_is_refused")]
    [TestCase("optimizer:\n  learning_rate: 1e999", 2, "beyond the largest number", TestName = "Real_overflow_is_refused")]
    [TestCase("model:\n  query_key_norm: yes", 2, "true or false", TestName = "Yes_is_no_boolean")]
    [TestCase("balance:\n  scope: globl", 2, "one of none, micro, sequence, global", TestName = "Unknown_choice_lists_the_choices")]
    [TestCase("optimizer:\n  name: AdamW", 2, "one of adamw, sgd", TestName = "Choices_are_spelt_exactly")]
    [TestCase("train:\n  steps: 5\n  steps: 6", 3, "train.steps is given twice, first at", TestName = "Doubled_key_is_refused")]
    [TestCase("train: {}\ntrain: {}", 2, "train is given twice", TestName = "Doubled_section_is_refused")]
    [TestCase("train: 5", 1, "train is a section and takes keys, not the value 5", TestName = "Scalar_for_a_section_is_refused")]
    [TestCase("train:\n- steps", 2, "train is a section and takes keys, not a list", TestName = "List_for_a_section_is_refused")]
    [TestCase("train:\n  steps: [1]", 2, "not a list", TestName = "List_for_a_scalar_is_refused")]
    [TestCase("train:\n  steps: {a: 1}", 2, "not a mapping", TestName = "Mapping_for_a_scalar_is_refused")]
    [TestCase("train: {steps: 5", 2, "isn't YAML: cannot be understood here", TestName = "Broken_syntax_is_refused")]
    [TestCase("train:\n  steps: ]", 2, "isn't YAML", TestName = "Stray_bracket_is_refused")]
    [TestCase("run:\n  name: 'a\n  seed: 2", 6, "(in what begins at line 2)", TestName = "Unclosed_quote_is_refused")]
    [TestCase("train:\n\tsteps: 5", 2, "a tab indents this line", TestName = "Tab_indentation_is_refused")]
    [TestCase("train: &a {steps: 5}", 1, "&a is an anchor", TestName = "Anchor_is_refused")]
    [TestCase("run: *a", 1, "*a refers to an anchor", TestName = "Alias_is_refused")]
    [TestCase("train:\n  <<: {steps: 4}", 2, "extends: other.yaml", TestName = "Merge_key_is_refused")]
    [TestCase("train:\n  steps: !!int 4", 2, "the tag", TestName = "Tag_is_refused")]
    [TestCase("? [a]\n: 1", 1, "a key must be a plain name", TestName = "List_as_a_key_is_refused")]
    [TestCase("extends: none.yaml", 1, "doesn't exist", TestName = "Unknown_parent_is_refused")]
    [TestCase("extends: test.yaml", 1, "goes in a circle: test.yaml -> test.yaml", TestName = "Circle_of_parents_is_refused")]
    [TestCase("extends: [a.yaml, b.yaml]", 1, "one file", TestName = "Two_parents_are_refused")]
    [TestCase("run:\n  name: a/b", 2, "run.name is", TestName = "Name_with_a_slash_is_refused")]
    public void Fault_is_named_with_its_line(string text, int line, string message)
    {
        var faults = _folder.Refuse(text + Domains);

        var fault = faults.SingleOrDefault(f => f.ToString().Contains(message, StringComparison.Ordinal));
        Assert.That(fault, Is.Not.EqualTo(null), $"nothing says '{message}' in:\n{string.Join('\n', faults)}");
        Assert.That(fault!.Origin.Source, Does.EndWith("test.yaml"));
        Assert.That(fault.Origin.Line, Is.EqualTo(line), fault.ToString());
    }

    [TestCase("data:\n  domains: a.txt", 2, "data.domains takes a list")]
    [TestCase("data:\n  domains:\n  - a.txt", 3, "an item of data.domains takes keys")]
    [TestCase("data:\n  domains:\n  - name: a", 3, "data.domains[0] lacks path")]
    [TestCase("data:\n  domains:\n  - {name: a, path: a}\n  - {name: b, path: b,\n     weight: -1}", 5, "data.domains[1].weight is -1; it takes a number above 0")]
    [TestCase("data:\n  domains:\n  - {name: a, path: a}\n  - {name: a, path: b}", 2, "2 items named a")]
    [TestCase("data:\n  domains:\n  - {name: a, path: a, wieght: 1}", 3, "data.domains[0].wieght is not a key; the keys of data.domains[0] are name, path, weight")]
    [TestCase("data:\n  domains: []", 2, "names no text")]
    public void Fault_in_a_list_of_domains_is_named_with_its_line(string text, int line, string message)
    {
        var fault = _folder.Refuse(text).Single();

        Assert.That(fault.ToString(), Does.Contain(message));
        Assert.That(fault.Origin.Line, Is.EqualTo(line));
    }

    [TestCase("train.steps", "isn't of the form key.path=value")]
    [TestCase("=5", "isn't of the form key.path=value")]
    [TestCase("train..steps=5", "isn't of the form key.path=value")]
    [TestCase("train.step=5", "did you mean train.steps?")]
    [TestCase("train.steps=[1", "isn't YAML")]
    [TestCase("train.steps=", "has no value")]
    [TestCase("train=5", "is a section")]
    [TestCase("train.steps.more=5", "not a mapping")]
    [TestCase("extends=a.yaml", "extends is not a key")]
    public void Fault_in_an_option_is_named(string option, string message)
    {
        var fault = _folder.Refuse(Domains, option).Single();

        Assert.That(fault.ToString(), Does.Contain(message).And.StartsWith("--set: "));
        Assert.That(fault.Origin, Is.EqualTo(ConfigOrigin.Set));
    }

    [Test]
    public void All_faults_of_all_files_and_options_come_at_once()
    {
        _folder.Write("parent.yaml", "model:\n  layers: none\n  with: 3\n");

        var faults = _folder.Refuse("extends: parent.yaml\ntrain: {steps: 0}\nmodel: {moe: {top_k: 20}}\nblance: {}" + Domains, "run.seed=x", "oops");

        Assert.That(faults.Select(f => (Path.GetFileName(f.Origin.Source), f.Origin.Line, f.Key)), Is.EquivalentTo(new[]
        {
            ("parent.yaml", 2, "model.layers"), ("parent.yaml", 3, "model.with"), ("test.yaml", 2, "train.steps"),
            ("test.yaml", 3, "model.moe.top_k"), ("test.yaml", 4, "blance"), ("--set", 0, "run.seed"), ("--set", 0, "oops"),
        }));
    }

    [Test]
    public void Circle_over_two_files_is_refused_where_it_closes()
    {
        _folder.Write("other.yaml", "\nextends: test.yaml\n");

        var fault = _folder.Refuse("extends: other.yaml" + Domains).Single();

        Assert.That(fault.What, Does.EndWith("test.yaml -> other.yaml -> test.yaml"));
        Assert.That((Path.GetFileName(fault.Origin.Source), fault.Origin.Line), Is.EqualTo(("other.yaml", 2)));
    }

    [Test]
    public void Missing_file_folder_and_binary_file_are_refused_by_name()
    {
        var binary = Path.Combine(_folder.Path, "binary.yaml");
        File.WriteAllBytes(binary, [0x61, 0xff, 0xfe, 0x80]);

        foreach (var path in new[] { Path.Combine(_folder.Path, "none.yaml"), _folder.Path, binary })
        {
            var refused = Assert.Throws<ConfigException>(() => ConfigReader.Read(path, []));
            Assert.That(refused!.Message, Does.Contain(path));
        }
    }

    [Test]
    public void Nesting_without_end_is_refused_not_followed()
    {
        Assert.That(_folder.Refuse("model: " + new string('[', 100_000)).Single(f => f.Key.Length == 0).What, Does.Contain("32 levels"));
        Assert.That(_folder.Refuse(Domains, string.Concat(Enumerable.Repeat("a.", 100_000)) + "a=1").Single().What, Does.Contain("is not a key"));
    }
}
