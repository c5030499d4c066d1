using System.Diagnostics;
using Moe.Launch;
using Moe.Launch.Supervision;
using Moe.Launch.Terminal;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>The job script: as it stands in launch/slurm, and what it does, with programs in the place of Slurm's.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class SlurmScriptTests : LaunchTests
{
    private static readonly string[] Launchers = ["--config", "configs/quickstart.yaml", "--nodes", "4", "--procs-per-node", "2", "--cpus-per-task", "16", "--time", "04:00:00"];
    private static readonly string[] Ranks = ["--config", "configs/quickstart.yaml", "--nodes", "4", "--procs-per-node", "2", "--tasks", "ranks", "--backend", "mpi", "--cpus-per-task", "8", "--time", "04:00:00"];
    private static readonly string[] Gpus = ["--config", "configs/quickstart.yaml", "--nodes", "2", "--gpus-per-node", "8", "--cpus-per-task", "96", "--mem", "0", "--time", "1-00:00:00", "--partition", "gpu", "--set", "parallel.device=cuda"];

    private Process? _job;

    [SetUp]
    public void Prepare()
    {
        _job = null;
        // Notes its words, and is the job step: ends with FAKE_CODE at once, or waits for SIGUSR1, on which it "saves" and leaves with 75.
        Launched.AddProgram("srun", $$"""
            #!/bin/bash
            echo "srun $*" >> '{{Calls}}'
            [ -z "${FAKE_CODE:-}" ] || exit "$FAKE_CODE"
            trap 'sleep 0.5; echo saved >> {{Calls}}; exit 75' USR1 TERM
            echo ready >> '{{Calls}}'
            for i in $(seq 200); do sleep 0.1; done
            """);
        Launched.AddProgram("scontrol", $$"""
            #!/bin/bash
            [ "$1" != show ] || { echo node0; echo node1; exit; }
            echo "scontrol $*" >> '{{Calls}}'
            """);
    }

    [TearDown]
    public void EndJob()
    {
        if (_job is { HasExited: false })
        {
            _job.Kill(entireProcessTree: true);
        }

        _job?.Dispose();
    }

    private string Calls => Path.Combine(Launched.Scratch, "calls");

    private string Called => File.Exists(Calls) ? File.ReadAllText(Calls) : "";

    private static IEnumerable<TestCaseData> Examples()
    {
        yield return new TestCaseData("launcher-a-node.sbatch", Launchers).SetArgDisplayNames("launcher a node");
        yield return new TestCaseData("task-a-rank.sbatch", Ranks).SetArgDisplayNames("task a rank");
        yield return new TestCaseData("gpu.sbatch", Gpus).SetArgDisplayNames("gpu");
    }

    [TestCaseSource(nameof(Examples))]
    public async Task Example_is_what_render_prints(string name, string[] options)
    {
        var (code, script, error) = await Launch(["slurm", "render", .. options]);

        Assert.That(code, Is.Zero, error);
        Assert.That(
            File.ReadAllText(Path.Combine(Root, "launch", "slurm", name)), Is.EqualTo(script),
            $"launch slurm render {string.Join(' ', options)} -o launch/slurm/{name}");
    }

    [TestCaseSource(nameof(Examples))]
    public void Example_passes_bash_and_shellcheck(string name, string[] options)
    {
        var file = Path.Combine(Root, "launch", "slurm", name);
        Assert.That(Run("bash", ["-n", file]), Is.EqualTo((0, "")), $"render {options.Length}");
        if (!File.Exists("/usr/bin/shellcheck"))
        {
            Assert.Ignore("shellcheck is not installed: only bash -n was run");
        }

        Assert.That(Run("shellcheck", [file]), Is.EqualTo((0, "")));
    }

    [Test]
    public async Task All_words_of_the_command_line_come_through()
    {
        var (code, script, error) = await Launch(
            "slurm", "render", "--config", "configs/quickstart.yaml", "--nodes", "2", "--account", "a1", "--qos", "high", "--mem", "32G", "--job-name", "mine", "--output", "logs/%j.out",
            "--sbatch=--constraint=a100", "--max-requeues", "3", "--run-dir", "runs/it's mine", "--resume", "none", "--set", "optimizer={name: sgd}", "--set", "train.steps=700");

        Assert.That(code, Is.Zero, error);
        foreach (var line in (string[])
        [
            "#SBATCH --account=a1", "#SBATCH --qos=high", "#SBATCH --mem=32G", "#SBATCH --job-name=mine", "#SBATCH --output=logs/%j.out", "#SBATCH --constraint=a100",
            "run='runs/it'\\''s mine'", "  --run-dir \"$run\" --resume none \\", "  --set 'optimizer={name: sgd}' \\", "  --set train.steps=700 &", "  if [ \"${SLURM_RESTART_COUNT:-0}\" -lt 3 ]; then",
        ])
        {
            Assert.That(script.Split('\n'), Does.Contain(line));
        }
    }

    [TestCase("--partition", "gpu\n#SBATCH --uid=root"), TestCase("--job-name", "two words"), TestCase("--time", ""), TestCase("--max-requeues", "-1"), TestCase("--nodes", "3")]
    [TestCase("--sbatch", "--comment=a\ntouch spoiled"), TestCase("--sbatch", "")]
    public async Task What_would_spoil_the_script_is_refused(string option, string value)
    {
        var (code, script, error) = await Launch("slurm", "render", "--config", "configs/quickstart.yaml", option, value);

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(script, Is.Empty);
        Assert.That(error, Does.Contain(option == "--nodes" ? "parallel.expert_parallel" : option));
    }

    [Test]
    public async Task Every_further_option_is_looked_at()
    {
        var (code, script, error) = await Launch(
            "slurm", "render", "--config", "configs/quickstart.yaml", "--sbatch=--comment=two words", "--sbatch", "--comment=a\ntouch spoiled");

        Assert.That(code, Is.EqualTo(ExitCodes.Usage), error);
        Assert.That(script, Is.Empty);
        Assert.That(error, Does.Contain("--sbatch"));
    }

    [Test]
    public async Task Configuration_whose_name_has_a_line_end_is_refused()
    {
        var file = Path.Combine(Launched.Scratch, "odd\ntouch spoiled #.yaml");
        File.Copy(Launched.ConfigFile, file);

        var (code, script, error) = await Launch("slurm", "render", "--config", file);

        Assert.That(code, Is.EqualTo(ExitCodes.Usage), error);
        Assert.That(script, Is.Empty);
        Assert.That(error, Does.Contain("--config"));
    }

    [TestCase("", "bin/launch"), TestCase("bin", "./launch"), TestCase("configs", "{0}/bin/launch")]
    public async Task Published_folder_is_called_by_its_own_executable(string folder, string program)
    {
        var published = new RankProgram(Path.Combine(Launched.Scratch, "bin", "launch"), [], NeedsNativeLibraries: true);
        var from = Directory.CreateDirectory(Path.Combine(Launched.Scratch, folder)).FullName;

        var (code, script, error) = await Launch(published, from, "slurm", "render", "--config", Launched.ConfigFile, "--nodes", "2");

        Assert.That(code, Is.Zero, error);
        Assert.That(script, Does.Contain($"\nsrun --kill-on-bad-exit=0 {string.Format(program, Launched.Scratch)} train \\\n").And.Not.Contain("dotnet"));
    }

    [Test]
    public async Task Gpus_for_a_training_on_cpus_are_refused()
    {
        var (code, script, error) = await Launch("slurm", "render", "--config", "configs/quickstart.yaml", "--gpus-per-node", "8");

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(error, Does.Contain("--gpus-per-node 8 asks for GPUs, but parallel.device is cpu").And.Contain("--set parallel.device=cuda"));
        Assert.That(script, Is.Empty);
    }

    [TestCase("launchers"), TestCase("ranks")]
    public async Task Nccl_is_a_backend_of_both_forms(string tasks)
    {
        string[] words = ["slurm", "render", "--config", "configs/quickstart.yaml", "--nodes", "2", "--gpus-per-node", "2", "--tasks", tasks, "--backend", "nccl", "--set"];

        var (code, script, error) = await Launch([.. words, "parallel.device=cuda"]);

        Assert.That(code, Is.Zero, error);
        Assert.That(script, Does.Contain("--run-dir \"$run\" --backend nccl --resume auto"));
        Assert.That((await Launch("slurm", "render", "--config", "configs/quickstart.yaml", "--backend", "nccl")).Error, Does.Contain("--backend nccl moves the memory of GPUs"));
    }

    [Test]
    public async Task Mpi_wants_a_task_a_rank()
    {
        var (code, _, error) = await Launch("slurm", "render", "--config", "configs/quickstart.yaml", "--nodes", "2", "--backend", "mpi");

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(error, Does.Contain("--tasks ranks"));
    }

    [Test]
    public void Submit_prints_the_job_and_how_to_watch_it()
    {
        Launched.AddProgram("sbatch", $"#!/bin/sh\necho \"sbatch $*\" >> '{Calls}'; cat > '{Launched.Scratch}/script'; echo '4711;cluster'\n");

        var code = Launched.StartBare("done", "slurm", "submit", "--config", Launched.ConfigFile, "--job-name", "mine", "--output", "%x-%j.log").End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Called, Is.EqualTo("sbatch --parsable\n"));
        Assert.That(Launched.Output, Does.StartWith("job=4711 log=mine-4711.log run=runs/mine-4711\n").And.Contain("squeue --jobs 4711").And.Contain("scancel 4711"));
        Assert.That(File.ReadAllText(Path.Combine(Launched.Scratch, "script")), Does.StartWith("#!/bin/bash\n").And.EndsWith("exit \"$code\"\n"));
    }

    [Test]
    public void Dry_run_submits_nothing()
    {
        Launched.AddProgram("sbatch", $"#!/bin/sh\necho called >> '{Calls}'\n");

        var code = Launched.StartBare("done", "slurm", "submit", "--config", Launched.ConfigFile, "--dry-run").End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Output, Does.StartWith("#!/bin/bash\n"));
        Assert.That(Called, Is.Empty);
    }

    [Test]
    public void Refusal_of_sbatch_is_passed_on()
    {
        Launched.AddProgram("sbatch", "#!/bin/sh\ncat > /dev/null; echo 'sbatch: error: invalid partition specified: nope' >&2; exit 1\n");

        var code = Launched.StartBare("done", "slurm", "submit", "--config", Launched.ConfigFile, "--partition", "nope").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(Launched.Error, Does.Contain("sbatch refuses the job: sbatch: error: invalid partition specified: nope"));
    }

    [TestCase(0), TestCase(3), TestCase(75)]
    public void Job_ends_as_its_step_does(int code)
    {
        Assert.That(StartJob("17", $"FAKE_CODE={code}").End(), Is.EqualTo(code));
        Assert.That(Called, Does.Not.Contain("requeue"), "nobody asked for it");
        Assert.That(Called, Does.StartWith("srun --kill-on-bad-exit=0 ").And.Contain("--run-dir runs/moe-17 "));
    }

    [Test]
    public void Signal_before_the_time_limit_is_passed_on_and_the_job_requeued_when_all_is_saved()
    {
        var job = StartJob("17", "SLURM_RESTART_COUNT=9").WhenReady();

        job.Signal(10);

        Assert.That(job.End(), Is.EqualTo(ExitCodes.Stopped));
        Assert.That(Called, Does.EndWith("ready\nsaved\nscontrol requeue 17\n"));
    }

    [Test]
    public void Task_of_an_array_is_requeued_alone_and_keeps_its_folder()
    {
        var job = StartJob("19", "SLURM_ARRAY_JOB_ID=17", "SLURM_ARRAY_TASK_ID=3").WhenReady();

        job.Signal(10);

        Assert.That(job.End(), Is.EqualTo(ExitCodes.Stopped));
        Assert.That(Called, Does.Contain("--run-dir runs/moe-17_3 ").And.EndWith("scontrol requeue 17_3\n"));
    }

    [Test]
    public void Job_that_was_requeued_often_enough_says_so_and_ends()
    {
        var job = StartJob("17", "SLURM_RESTART_COUNT=10").WhenReady();

        job.Signal(10);

        Assert.That(job.End(), Is.EqualTo(ExitCodes.Stopped));
        Assert.That(Called, Does.EndWith("saved\n"));
        Assert.That(job.Error, Does.Contain("job 17 was requeued 10 time(s), its limit").And.Contain("--run-dir runs/moe-17"));
    }

    [Test]
    public void Cancelled_job_waits_for_its_training_to_save_and_is_not_requeued()
    {
        var job = StartJob("17").WhenReady();

        job.Signal(15).Step(15); // Slurm tells both

        Assert.That(job.End(), Is.EqualTo(ExitCodes.Stopped));
        Assert.That(Called, Does.EndWith("ready\nsaved\n"));
    }

    private static string Root => Moe.Launch.Runs.Repository.Find(AppContext.BaseDirectory)!;

    private FakeJob StartJob(string number, params string[] variables)
    {
        var start = new ProcessStartInfo("bash", [Path.Combine(Root, "launch", "slurm", "launcher-a-node.sbatch")]) { RedirectStandardError = true, WorkingDirectory = Launched.Scratch };
        foreach (var (name, value) in Launched.Environment)
        {
            start.Environment[name] = value;
        }

        foreach (var variable in (string[])[$"SLURM_JOB_ID={number}", "SLURM_JOB_NAME=moe", "SLURM_JOB_NODELIST=node[0-1]", .. variables])
        {
            start.Environment[variable.Split('=')[0]] = variable.Split('=')[1];
        }

        _job = Process.Start(start)!;
        return new FakeJob(_job, () => Called);
    }

    private static (int Code, string Output) Run(string program, string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output + error.Result);
    }

    // As a build in this project is called, wherever .NET is installed.
    private static Task<(int Code, string Output, string Error)> Launch(params string[] arguments) => Launch(
        new RankProgram("dotnet", ["exec", Path.Combine(Root, "launch", "bin", "Release", "net10.0", "launch.dll")], NeedsNativeLibraries: true), Root, arguments);

    private static async Task<(int Code, string Output, string Error)> Launch(RankProgram self, string folder, params string[] arguments)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        var host = new LaunchHost(new Screen(output, error, false, false, false, Glyphs.Unicode, Glyphs.Unicode, () => (100, 24)), folder, _ => null, RankProgram.Trainer)
        {
            Self = self,
        };
        var code = await LaunchProgram.RunAsync(arguments, host);
        return (code, output.ToString(), error.ToString());
    }

    /// <summary>A job script that runs.</summary>
    private sealed class FakeJob(Process process, Func<string> calls)
    {
        private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

        private readonly Task<string> _error = process.StandardError.ReadToEndAsync();

        public string Error => _error.Result;

        public FakeJob WhenReady()
        {
            for (var clock = Stopwatch.StartNew(); !calls().Contains("ready", StringComparison.Ordinal); Thread.Sleep(20))
            {
                Assert.That(clock.Elapsed, Is.LessThan(Patience), "the start of srun");
            }

            return this;
        }

        public FakeJob Signal(int signal)
        {
            LaunchedRun.SignalProcess(process.Id, signal);
            return this;
        }

        public FakeJob Step(int signal)
        {
            foreach (var child in File.ReadAllText($"/proc/{process.Id}/task/{process.Id}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries))
            {
                LaunchedRun.SignalProcess(int.Parse(child), signal);
            }

            return this;
        }

        public int End()
        {
            Assert.That(process.WaitForExit(Patience), "the end of the job");
            return process.ExitCode;
        }
    }
}
