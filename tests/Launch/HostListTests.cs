using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>Ranks on a list of hosts, by a program in ssh's place that runs its command on this machine. It notes hosts and commands, as <c>ps</c> would show them.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class HostListTests : LaunchTests
{
    private static readonly string[] Backends = ["gloo", "mpi"];

    [SetUp]
    public void Prepare()
    {
        // Both "hosts" are this machine, where two of mpirun's helpers would map their topology to one address, and share a folder.
        Launched.Environment["OMPI_MCA_rtc_hwloc_vmhole"] = "none";
        Launched.AddProgram("fake-ssh", $$"""
            #!/bin/sh
            host=$1; shift
            [ "$host" != gone ] || { echo "ssh: connect to host gone port 22: No route to host" >&2; exit 255; }
            echo "$host $*" >> '{{CommandLog}}'
            mkdir -p '{{Launched.Scratch}}/tmp'-$host
            TMPDIR='{{Launched.Scratch}}/tmp'-$host exec env -u MLFLOW_PARENT_RUN_ID sh -c "$*"
            """);
    }

    private string CommandLog => Path.Combine(Launched.Scratch, "commands");

    [TestCaseSource(nameof(Backends))]
    public void Each_host_gets_its_ranks(string backend)
    {
        var code = Start("done", backend).End();

        Assert.That(code, Is.Zero, Launched.Error);
        for (var rank = 0; rank < 4; rank++)
        {
            Assert.That(File.ReadAllText(Launched.Folder.LogFile(rank)), Does.Contain($"rank {rank} of 4, local {rank % 2} of 2, node {rank / 2}"));
        }

        Assert.That(Launched.Output, Does.StartWith($"2 host(s) (alpha, beta): 2 rank(s) on each over {backend}, started by {(backend == "mpi" ? "mpirun" : "fake-ssh")}"));
        Assert.That(File.ReadLines(CommandLog).Select(line => line.Split(' ')[0]), Does.Contain("alpha").And.Contain("beta"));
        Assert.That(Launched.Record.GetProperty("hosts").EnumerateArray().Select(host => host.GetString()), Is.EqualTo(new[] { "alpha", "beta" }));
        Assert.That(Launched.Processes, Is.Empty);
    }

    [TestCaseSource(nameof(Backends))]
    public void Secret_stands_in_no_command(string backend)
    {
        Start("done", backend).End();

        Assert.That(File.ReadAllText(CommandLog), Does.Not.Contain("MOE_SUPERVISOR_TOKEN="));
    }

    [TestCaseSource(nameof(Backends))]
    public void Tracking_of_the_environment_reaches_ranks_on_other_hosts_and_stands_in_no_command(string backend)
    {
        Launched.Environment["MLFLOW_PARENT_RUN_ID"] = "parent-of-all";

        Start("done", backend).End();

        Assert.That(File.ReadAllText(Launched.Folder.LogFile(0)), Does.Contain("parent run parent-of-all"));
        Assert.That(File.ReadAllText(CommandLog), Does.Not.Contain("parent-of-all"));
    }

    [Test]
    public void Words_arrive_as_they_are()
    {
        var folder = Path.Combine(Launched.Scratch, "it's a \"run\" $HOME");

        var code = Launched.StartBare("done", ["--config", Launched.ConfigFile, "--run-dir", folder, .. Options("gloo")]).End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(File.ReadAllText(new RunFolder(folder).LogFile(3)), Does.Contain($"arguments train --config {folder}/config.yaml"));
    }

    [TestCaseSource(nameof(Backends))]
    public void Host_that_cannot_be_reached_is_one_error_that_names_it(string backend)
    {
        var code = Launched.Start("done", "--hosts", "alpha,gone", "--ssh", "fake-ssh", "--rdzv", "127.0.0.1", "--backend", backend).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(Launched.Error, Does.Contain("host gone cannot be reached: ssh: connect to host gone port 22: No route to host").And.Contain("fake-ssh gone true"));
        Assert.That(Directory.Exists(Launched.Folder.Path), Is.False, "nothing is begun");
    }

    [Test]
    public void Host_with_other_files_is_named_with_the_folder()
    {
        if (!Environment.IsPrivilegedProcess)
        {
            Assert.Ignore("only root can give a host a file system of its own");
        }

        // The run's own folder alone: the programs may lie anywhere, also below the folder for temporary files.
        Launched.AddProgram("fake-ssh", $"#!/bin/sh\nshift; exec unshare --mount sh -c \"mount -t tmpfs none {Launched.Scratch}; $*\"\n");

        var code = Start("done", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(Launched.Error, Does.Contain("host alpha does not see the folder").And.Contain("a shared file system"));
    }

    [Test]
    public void Missing_ssh_is_named()
    {
        var code = Launched.Start("done", "--hosts", "alpha", "--ssh", "no-such-ssh", "--rdzv", "127.0.0.1", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(Launched.Error, Does.Contain("'no-such-ssh' cannot be run").And.Contain("MOE_SSH"));
    }

    [TestCase("throw@3", "gloo"), TestCase("throw@3", "mpi"), TestCase("freeze", "gloo"), TestCase("kill@2", "gloo")]
    public void Failure_on_any_host_ends_all(string behaviour, string backend)
    {
        var code = Start(behaviour, backend).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Error);
        Assert.That(Launched.Error, Does.Contain(behaviour == "freeze" ? "another rank will not hear of this" : $"root cause: rank {behaviour[^1]} (node 1 (beta), local "));
        Launched.Wait(() => Launched.Processes.Count == 0, "the end of all ranks");
    }

    [TestCaseSource(nameof(Backends))]
    public void Interrupt_reaches_all_hosts(string backend)
    {
        var code = Start("endless", backend).Until("step=3").Signal(2).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Stopped), Launched.Error);
        Assert.That(Launched.Output, Does.Contain("event=checkpoint"));
        Assert.That(Launched.Error, Does.Contain("--hosts alpha:2,beta:2"), "the command that continues");
        Assert.That(Launched.Processes, Is.Empty);
    }

    [TestCaseSource(nameof(Backends))]
    public void Killed_launcher_leaves_nothing_on_any_host(string backend)
    {
        Start("endless", backend).Until("step=3");

        Launched.Signal(9).End();

        Launched.Wait(() => Launched.Processes.Count == 0, "the end of the ranks");
    }

    private LaunchedRun Start(string behaviour, string backend) => Launched.Start(behaviour, Options(backend));

    private static string[] Options(string backend) => ["--hosts", "alpha:2,beta:2", "--ssh", "fake-ssh", "--rdzv", "127.0.0.1", "--backend", backend];
}
