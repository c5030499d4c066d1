using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Moe.Launch;
using Moe.Launch.Checks;
using Moe.Launch.Supervision;
using Moe.Launch.Terminal;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary><c>launch doctor</c>, with programs on PATH that answer as told.</summary>
internal sealed class DoctorTests
{
    private readonly Dictionary<string, string> _variables = [];
    private string _folder = null!;

    [SetUp]
    public void CreateFolder()
    {
        _folder = Directory.CreateTempSubdirectory("moe-doctor-").FullName;
        _variables.Clear();
        _variables["PATH"] = _folder;
    }

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public void Healthy_Slurm_is_described_and_useless_nodes_are_named()
    {
        Program("sinfo", "case $1 in --version) echo slurm 22.05.8;; *) echo 'p* up 3 idle'; echo 'p* up 1 down*';; esac");
        var findings = Examine(new SlurmCheck());

        Assert.That(findings[0], Is.EqualTo(Finding.Works("Slurm: slurm 22.05.8; p* 3 idle 1 down*")));
        Assert.That(findings[1].Verdict, Is.EqualTo(Verdict.Warns));
        Assert.That(findings[1].Text, Does.Contain("1 node(s) of p* down*"));
    }

    [Test]
    public void Programs_of_Slurm_without_a_cluster_are_no_fault_outside_of_a_job()
    {
        Program("sinfo", "echo 'sinfo: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host' >&2; exit 1");

        Assert.That(Examine(new SlurmCheck()).Single().Verdict, Is.EqualTo(Verdict.Skipped));

        _variables["SLURM_JOB_ID"] = "17";
        Assert.That(Examine(new SlurmCheck()).Single().Verdict, Is.EqualTo(Verdict.Fails));
    }

    [Test]
    public void Slurm_without_a_controller_is_told_in_its_own_words_and_fails_in_a_job([Values] bool inJob)
    {
        if (inJob)
        {
            _variables["SLURM_JOB_ID"] = "7";
        }

        Program("sinfo", "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1");
        Assert.That(Examine(new SlurmCheck()).Single(), Is.EqualTo(new Finding(
            inJob ? Verdict.Fails : Verdict.Warns, "Slurm: sinfo: exit code 1: slurm_load_partitions: Unable to contact slurm controller", "is slurmctld up? scontrol ping")));
    }

    [Test]
    public void What_is_not_installed_is_skipped([Values] bool inJob)
    {
        if (inJob)
        {
            _variables["SLURM_JOB_ID"] = "7";
        }

        Assert.That(Examine(new SlurmCheck()).Single().Verdict, Is.EqualTo(inJob ? Verdict.Warns : Verdict.Skipped));
        Assert.That(Examine(new GpuCheck()).Single().Verdict, Is.EqualTo(Verdict.Skipped));
        Assert.That(Examine(new MlflowCheck()).Single().Verdict, Is.EqualTo(Verdict.Skipped));
        Assert.That(Examine(new MpiCheck()).Single().Verdict, Is.EqualTo(Verdict.Warns));
    }

    [Test]
    public void Variables_of_two_starters_that_disagree_are_both_named()
    {
        (_variables["RANK"], _variables["SLURM_PROCID"], _variables["WORLD_SIZE"]) = ("1", "2", "4");
        Assert.That(Examine(new RankVariablesCheck()).Single().Text, Does.Contain("RANK=1 and SLURM_PROCID=2"));
        _variables["SLURM_PROCID"] = "1";
        Assert.That(Examine(new RankVariablesCheck()).Single().Verdict, Is.EqualTo(Verdict.Works));
        _variables["WORLD_SIZE"] = "1";
        Assert.That(Examine(new RankVariablesCheck()).Single().Text, Does.Contain("rank 1 of 1"));
    }

    [Test]
    public void Gpus_are_counted_and_missing_peer_access_is_told()
    {
        Program("nvidia-smi", """
            case $1 in
            topo) printf ' \tGPU0\tGPU1\nGPU0\tX\tOK\nGPU1\tNS\tX\n';;
            *) echo 'NVIDIA H100 80GB HBM3, 81559 MiB, 575.57'; echo 'NVIDIA H100 80GB HBM3, 81559 MiB, 575.57';;
            esac
            """);
        var findings = Examine(new GpuCheck(), ranks: 4);

        Assert.That(findings[0].Text, Is.EqualTo("GPU: 2x NVIDIA H100 80GB HBM3 | 81559 MiB | 575.57"));
        Assert.That(findings[1].Text, Is.EqualTo("GPU: 4 ranks share 2 GPU(s)"));
        Assert.That(findings[2].Verdict, Is.EqualTo(Verdict.Warns));
    }

    [Test]
    public void Mpirun_that_hangs_costs_its_limit_and_leaves_nothing_behind()
    {
        Program("mpirun", "case $1 in --version) echo 'mpirun (Open MPI) 4.1.4';; *) exec sleep 61.5;; esac");
        var clock = Stopwatch.StartNew();
        var findings = Examine(new MpiCheck());

        Assert.That(findings.Last(), Has.Property(nameof(Finding.Verdict)).EqualTo(Verdict.Fails));
        Assert.That(findings.Last().Text, Does.Contain("did not say hello: no answer within 10 s"));
        Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(20)));
        Assert.That(Directory.EnumerateDirectories("/proc").Select(CommandLine), Has.None.EqualTo("sleep\0" + "61.5\0"));
    }

    [Test]
    public void Check_that_never_ends_is_left_behind()
    {
        var clock = Stopwatch.StartNew();
        var diagnosis = Doctor.Examine([new Endless(), new Broken()], Context()).ToList();

        Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(5)));
        Assert.That(diagnosis[0].Findings.Single().Text, Is.EqualTo("endless: no answer within 0 s"));
        Assert.That(diagnosis[1].Findings.Single().Text, Is.EqualTo("broken: it broke"));
        Assert.That(diagnosis.SelectMany(one => one.Findings).Select(finding => finding.Verdict), Is.All.EqualTo(Verdict.Fails));
    }

    [Test]
    public void Host_is_reached_through_ssh_with_folder_clock_and_network()
    {
        Program("ssh", "while [ \"$1\" = -o ]; do shift 2; done; shift; exec /bin/sh -c \"$*\"");
        foreach (var program in new[] { "cat", "date" })
        {
            File.CreateSymbolicLink(Path.Combine(_folder, program), $"/bin/{program}");
        }

        var findings = Examine(new HostsCheck(), hosts: ["localhost"]);
        Assert.That(findings.Select(finding => finding.Text), Has.Some.Contains("host localhost: clock "));
        Assert.That(findings.Select(finding => finding.Text), Has.Some.EqualTo("host localhost: the folder of runs is the same"));
        Assert.That(findings.Select(finding => finding.Text), Has.Some.Match("host localhost: port [0-9]+ is reached, [0-9]+ us there and back, [0-9.]+ GB/s"));
        Assert.That(findings.Select(finding => finding.Verdict), Is.All.EqualTo(Verdict.Works));
        Assert.That(Directory.EnumerateFileSystemEntries(_folder, ".doctor*"), Is.Empty);
    }

    [Test]
    public void Host_without_a_key_or_a_name_fails_with_a_remedy()
    {
        Program("ssh", "echo 'Permission denied (publickey).' >&2; exit 255");
        var findings = Examine(new HostsCheck(), hosts: ["localhost", "no-such-host.invalid"]);

        Assert.That(findings, Has.Some.Matches<Finding>(finding => finding.Text.Contains("exit code 255: Permission denied", StringComparison.Ordinal) && finding.Remedy!.Contains("ssh-copy-id", StringComparison.Ordinal)));
        Assert.That(findings, Has.Some.Matches<Finding>(finding => finding.Verdict == Verdict.Fails && finding.Text.Contains("does not resolve", StringComparison.Ordinal)));
    }

    [Test]
    public void Clock_of_a_host_that_is_a_minute_off_is_told()
    {
        Program("ssh", "while [ \"$1\" = -o ]; do shift 2; done; shift; case $* in date*) /bin/date -d '60 seconds' +%s.%N;; 'echo doctor') echo doctor;; *) exit 1;; esac");
        var clock = Examine(new HostsCheck(), hosts: ["localhost"]).Single(finding => finding.Text.Contains("clock", StringComparison.Ordinal));

        Assert.That(clock.Verdict, Is.EqualTo(Verdict.Warns));
        Assert.That(clock.Text, Does.Match(@"clock \+(59|60)\.\d+ s from here"));
    }

    [TestCase(HttpStatusCode.OK, Verdict.Works)]
    [TestCase(HttpStatusCode.Unauthorized, Verdict.Fails)]
    [TestCase(HttpStatusCode.InternalServerError, Verdict.Fails)]
    public void Mlflow_is_asked_with_the_token_which_is_never_shown(HttpStatusCode status, Verdict verdict)
    {
        using var server = new OneAnswer(status);
        (_variables["MLFLOW_TRACKING_URI"], _variables["MLFLOW_TRACKING_TOKEN"]) = ($"http://user:pass-word@127.0.0.1:{server.Port}", "se-cret");
        var finding = Examine(new MlflowCheck()).Single();

        Assert.That(finding.Verdict, Is.EqualTo(verdict), finding.Text);
        Assert.That($"{finding}", Does.Not.Contain("se-cret").And.Not.Contain("pass-word"));
        Assert.That(server.Requests, Does.Contain("Authorization: Bearer se-cret"));
    }

    [Test]
    public void Mlflow_that_is_down_fails_within_its_limit()
    {
        _variables["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9";
        Assert.That(Examine(new MlflowCheck()).Single().Text, Does.StartWith("MLflow: http://127.0.0.1:9 is not reached"));
    }

    [Test]
    public void Port_in_use_names_its_process()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        _variables["MASTER_PORT"] = $"{((IPEndPoint)listener.LocalEndpoint).Port}";
        Assert.That(Examine(new PortCheck())[0].Text, Does.Contain($"is in use by pid {Environment.ProcessId} ("));
    }

    [Test]
    public void Runs_folder_is_tried_and_left_as_it_was()
    {
        Assert.That(Examine(new RunsFolderCheck()).Select(finding => finding.Verdict), Is.All.EqualTo(Verdict.Works).Or.All.EqualTo(Verdict.Warns));
        Assert.That(Directory.EnumerateFileSystemEntries(_folder), Is.Empty);
    }

    [Test]
    public void Connection_between_two_ends_is_measured()
    {
        var output = new StringWriter();
        var answering = Task.Run(() => AnswerCommand.Run(output, TimeSpan.FromSeconds(10)));
        SpinWait.SpinUntil(() => output.ToString().EndsWith('\n'), TimeSpan.FromSeconds(5));
        var rate = NetworkProbe.Measure(IPAddress.Loopback, int.Parse(output.ToString()));

        Assert.That(answering.Wait(TimeSpan.FromSeconds(10)));
        Assert.That(rate.RoundTrip, Is.GreaterThan(TimeSpan.Zero));
        Assert.That(rate.BytesPerSecond, Is.GreaterThan(1e6));
    }

    [Test]
    public void Report_ends_with_a_block_to_copy_and_json_has_every_finding()
    {
        using var run = new LaunchedRun();
        run.Environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9";
        Assert.That(run.StartTrainer("doctor", "--procs-per-node", "2").End(), Is.EqualTo(ExitCodes.Preflight), run.Error);
        Assert.That(run.Output, Does.Match("(?m)^ok +machine: .NET").And.Match("(?m)^fail +MLflow: .*  ->  ").And.Contain("copy from here into an issue:\n```\nlaunch "));

        Assert.That(run.StartTrainer("doctor", "--ui", "json").End(), Is.EqualTo(ExitCodes.Preflight));
        var report = JsonDocument.Parse(run.Output).RootElement;
        Assert.That(report.GetProperty("ok").GetBoolean(), Is.False);
        Assert.That(report.GetProperty("findings").EnumerateArray().Select(finding => finding.GetProperty("check").GetString()).Distinct(), Is.EquivalentTo(Doctor.Checks.Select(check => check.Name)));
    }

    private static string CommandLine(string process)
    {
        try
        {
            return File.ReadAllText(Path.Combine(process, "cmdline"));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    private List<Finding> Examine(Check check, int? ranks = null, params string[] hosts) => [.. check.Examine(Context(ranks, hosts))];

    private DoctorContext Context(int? ranks = null, params string[] hosts) => new(
        new LaunchHost(new Screen(TextWriter.Null, TextWriter.Null, false, false, false, Glyphs.Unicode, Glyphs.Unicode, () => (100, 24)), _folder, _variables.GetValueOrDefault, RankProgram.Assembly("none", needsNativeLibraries: false)),
        _folder,
        hosts,
        ranks);

    private void Program(string name, string body)
    {
        var path = Path.Combine(_folder, name);
        File.WriteAllText(path, $"#!/bin/sh\n{body}\n");
        using var chmod = Process.Start("chmod", ["+x", path]);
        chmod.WaitForExit();
    }

    private sealed class Endless : Check
    {
        public override string Name => "endless";

        public override TimeSpan Limit => TimeSpan.FromMilliseconds(200);

        public override IEnumerable<Finding> Examine(DoctorContext context)
        {
            Thread.Sleep(TimeSpan.FromMinutes(1));
            yield return Finding.Works("never");
        }
    }

    private sealed class Broken : Check
    {
        public override string Name => "broken";

        public override IEnumerable<Finding> Examine(DoctorContext context) => throw new InvalidOperationException("it broke\nand more");
    }

    /// <summary>A server that gives every request the same answer.</summary>
    private sealed class OneAnswer : IDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private readonly StringBuilder _requests = new();

        public OneAnswer(HttpStatusCode status)
        {
            _listener.Start();
            _ = Task.Run(async () =>
            {
                while (true)
                {
                    using var client = await _listener.AcceptTcpClientAsync();
                    var buffer = new byte[8192];
                    var read = await client.GetStream().ReadAsync(buffer);
                    lock (_requests)
                    {
                        _requests.Append(Encoding.ASCII.GetString(buffer, 0, read));
                    }

                    await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes($"HTTP/1.1 {(int)status} X\r\nContent-Length: 5\r\nConnection: close\r\n\r\n3.1.1"));
                }
            });
        }

        public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        public string Requests
        {
            get
            {
                lock (_requests)
                {
                    return _requests.ToString();
                }
            }
        }

        public void Dispose() => _listener.Stop();
    }
}
