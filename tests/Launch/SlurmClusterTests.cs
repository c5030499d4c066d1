using System.Diagnostics;
using Moe.Launch.Runs;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>The short form of <c>make slurm-test</c>: a real Slurm of two nodes on this machine, where it is installed and the tests run as root.</summary>
[Parallelizable(ParallelScope.None)]
[Category("slurm")]
internal sealed class SlurmClusterTests
{
    private const int NotRun = 2;

    [Test]
    [CancelAfter(180_000)]
    public void Job_that_is_signalled_requeued_and_resumed_has_the_losses_of_an_uninterrupted_run()
    {
        if (!Environment.IsPrivilegedProcess)
        {
            Assert.Ignore("NOT RUN: a real Slurm wants root");
        }

        var start = new ProcessStartInfo(Path.Combine(Repository.Find(AppContext.BaseDirectory)!, "scripts", "slurm-test.sh"), ["--short"]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["MOE_LAUNCH"] = Path.Combine(AppContext.BaseDirectory, "launch.dll");
        foreach (var name in start.Environment.Keys.Where(name => name.StartsWith("SLURM_", StringComparison.Ordinal) || name.StartsWith("MOE_RDZV", StringComparison.Ordinal)).ToList())
        {
            start.Environment.Remove(name);
        }

        using var script = Process.Start(start)!;
        var error = script.StandardError.ReadToEndAsync();
        var output = script.StandardOutput.ReadToEnd();
        script.WaitForExit();
        if (script.ExitCode == NotRun)
        {
            Assert.Ignore($"NOT RUN: {(output + error.Result).Trim()}");
        }

        Assert.That(script.ExitCode, Is.Zero, output + error.Result);
        Assert.That(output, Does.Contain("losses equal to the last bit"));
    }
}
