using System.Reflection;
using System.Text.RegularExpressions;
using Moe.Training;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Reports;

/// <summary>docs/run-folder.md names what a run writes.</summary>
internal sealed partial class RunFolderPageTests
{
    private static readonly string Page = File.ReadAllText(
        Path.Combine(Moe.Launch.Runs.Repository.Find(AppContext.BaseDirectory)!, "docs", "run-folder.md"));

    [Test]
    public void Every_file_of_a_run_folder_is_named()
    {
        var folder = new RunFolder("/");
        var files = typeof(RunFolder).GetProperties(BindingFlags.Public | BindingFlags.Instance)
            .Where(property => property.Name.EndsWith("File", StringComparison.Ordinal)).Select(property => ((string)property.GetValue(folder)!)[1..])
            .Concat([folder.LogFile(0)[1..], folder.ErrorFile(0)[1..], folder.NodeLogFile(1)[1..]]);

        Assert.That(files.Where(file => !Page.Contains($"`{file}`", StringComparison.Ordinal)), Is.Empty);
    }

    [Test]
    public void Keys_of_metrics_are_those_of_a_run()
    {
        var config = new RunConfig
        {
            Data = new() { Domains = [new() { Name = "DOMAIN", Path = "a" }, new() { Name = "b", Path = "b" }] },
            Train = new() { EvalEvery = 1 },
        };

        Assert.That(
            Keys("## metrics.jsonl"),
            Is.EquivalentTo(MetricKeys.Of(config).Except([MetricKeys.LossOf("b")]).Concat(["step", TrainingLoop.TimeKey])));
    }

    [Test]
    public void Keys_of_ranks_are_those_of_the_meter() => Assert.That(Keys("| key of ranks.jsonl |"), Is.EquivalentTo(RankMeter.Keys));

    // The first cells of the table that comes next.
    private static IEnumerable<string> Keys(string before)
    {
        var rest = Page[Page.IndexOf(before, StringComparison.Ordinal)..];
        var table = rest[rest.IndexOf("| --- |", StringComparison.Ordinal)..];
        return table.Split('\n').Skip(1).TakeWhile(line => line.StartsWith('|'))
            .SelectMany(line => Code().Matches(line.Split(" | ")[0]).Select(match => match.Groups[1].Value));
    }

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex Code();
}
