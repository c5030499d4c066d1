using System.Diagnostics;
using System.Text.RegularExpressions;
using Moe.Launch.Runs;
using Moe.Torch.Native;
using NUnit.Framework;

namespace Moe.Tests.Torch;

public class NativeContractTests
{
    [TestCase("moe_torch", "src/Torch/Native", "src/Parallel/C10dAbi.cs")]
    [TestCase("moe_mpi", "src/Parallel/Mpi")]
    public void Library_exports_what_the_managed_side_imports_and_nothing_else(string library, params string[] sources)
    {
        var root = Repository.Find(AppContext.BaseDirectory)!;
        var imported = sources
            .Select(source => Path.Combine(root, source))
            .SelectMany(path => File.Exists(path) ? [path] : Directory.GetFiles(path, "*.cs"))
            .SelectMany(file => Regex.Matches(File.ReadAllText(file), @"""(moe_\w+)""|partial \S+ (moe_\w+)\("))
            .Select(match => match.Groups[1].Success ? match.Groups[1].Value : match.Groups[2].Value)
            .Where(name => name != library)
            .Distinct();
        Assert.That(Exported(NativeFolder.Require(library)).Order(), Is.EqualTo(imported.Order()));
    }

    private static string[] Exported(string library)
    {
        using var nm = Process.Start(new ProcessStartInfo("nm", ["-D", "--defined-only", "--format=just-symbols", library]) { RedirectStandardOutput = true })!;
        var names = nm.StandardOutput.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        nm.WaitForExit();
        return [.. names.Where(name => name.StartsWith("moe_", StringComparison.Ordinal))];
    }
}
