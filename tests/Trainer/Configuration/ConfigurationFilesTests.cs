using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Configuration;

/// <summary>What the repository holds: configs/ and docs/configuration.md.</summary>
internal sealed class ConfigurationFilesTests
{
    private static readonly string Repository = Moe.Launch.Runs.Repository.Find(AppContext.BaseDirectory)!;

    private static IEnumerable<string> Files =>
        Directory.EnumerateFiles(Path.Combine(Repository, "configs"), "*", SearchOption.AllDirectories)
            .Select(f => Path.GetRelativePath(Repository, f))
            .Where(f => !f.StartsWith(Path.Combine("configs", "devices"), StringComparison.Ordinal)) // those describe devices, not runs
            .Order();

    [TestCaseSource(nameof(Files))]
    public void File_in_configs_is_valid_on_four_ranks_without_a_warning(string file)
    {
        var read = ConfigReader.Read(Path.Combine(Repository, file), []);

        ConfigRules.ValidateMesh(read, 4);
        Assert.That(read.Warnings, Is.Empty);
        Assert.That(read.Config.Data.Domains.Select(d => d.Path), Is.All.Matches<string>(File.Exists));
        Assert.That(File.ReadLines(Path.Combine(Repository, file)).First(), Does.StartWith("# "), "a file begins by saying what it is for");
    }

    [Test]
    public void Arms_of_the_balancing_experiment_differ_in_the_scope_alone()
    {
        var micro = ConfigReader.Read(Path.Combine(Repository, "configs/experiments/balance-micro.yaml"), ["run.name=x"]).Config;
        var global = ConfigReader.Read(Path.Combine(Repository, "configs/experiments/balance-global.yaml"), ["run.name=x"]).Config;

        Assert.That(micro.Balance.Scope, Is.EqualTo(BalanceScope.Micro));
        Assert.That(micro with { Balance = micro.Balance with { Scope = BalanceScope.Global } }, Is.EqualTo(global));
    }

    [Test]
    public void Annotated_configuration_says_where_each_value_comes_from()
    {
        using var folder = new ConfigurationFolder();
        var path = folder.Write("a.yaml", "model:\n  layers: 2\ndata:\n  domains: [{name: a, path: /a}]\n");

        var lines = ConfigYaml.ToAnnotatedYaml(ConfigReader.Read(path, ["train.steps=9", "schedule.warmup_steps=0"])).Split('\n');

        var column = lines[1].IndexOf('#', StringComparison.Ordinal);
        Assert.That(lines.Where(l => l.Contains('#', StringComparison.Ordinal)).Select(l => l.IndexOf('#', StringComparison.Ordinal)), Is.All.EqualTo(column), "aligned");
        Assert.That(lines, Has.One.StartsWith("  layers: 2 ").And.EndsWith($"# {path}:2"));
        Assert.That(lines, Has.One.StartsWith("  steps: 9 ").And.EndsWith("# --set"));
        Assert.That(lines, Has.One.StartsWith("  width: 128 ").And.EndsWith("# default"));
        Assert.That(lines, Has.One.StartsWith("    - name: a ").And.EndsWith($"# {path}:4"));
    }

    [Test]
    public void Configuration_page_is_up_to_date()
    {
        var page = Path.Combine(Repository, "docs", "configuration.md");
        var written = ConfigReference.ToMarkdown();
        if (Environment.GetEnvironmentVariable("MOE_UPDATE_DOCS") == "1")
        {
            File.WriteAllText(page, written);
        }

        Assert.That(File.Exists(page) ? File.ReadAllText(page) : "", Is.EqualTo(written),
            "docs/configuration.md differs from the records; rewrite it: MOE_UPDATE_DOCS=1 dotnet test --filter Configuration_page_is_up_to_date");
    }
}
