using System.Text.RegularExpressions;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

/// <summary>docs/optimizers.md shows code that exists.</summary>
public partial class OptimizersPageTests
{
    [Test]
    public void Every_line_of_code_quoted_for_adding_an_optimizer_stands_in_the_sources()
    {
        var repository = Moe.Launch.Runs.Repository.Find(AppContext.BaseDirectory)!;
        var page = File.ReadAllText(Path.Combine(repository, "docs", "optimizers.md"));
        var section = page[page.IndexOf("## Adding one", StringComparison.Ordinal)..];
        string[] files = ["src/Optimizers/Sgd.cs", "tests/Optimizers/AnyOptimizer.cs", "src/Trainer/Training/OptimizerAssembly.cs"];
        var sources = files.SelectMany(file => File.ReadLines(Path.Combine(repository, file))).ToHashSet();
        var quoted = Quote().Matches(section).SelectMany(quote => quote.Groups[1].Value.TrimEnd().Split('\n')).ToList();

        Assert.That(quoted, Has.Count.AtLeast(5));
        Assert.That(quoted, Is.SubsetOf(sources));
        Assert.That(files, Is.All.Matches<string>(file => section.Contains(file, StringComparison.Ordinal)), "the page names every file");
    }

    [GeneratedRegex("```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Quote();
}
