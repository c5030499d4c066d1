using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>A launcher process with fake ranks, in a folder of its own, whose end leaves nothing behind.</summary>
internal sealed partial class LaunchedRun : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly string _folder = Directory.CreateTempSubdirectory("moe-launch-").FullName;
    private readonly StringBuilder _output = new();
    private readonly StringBuilder _error = new();
    private Process? _process;

    public LaunchedRun()
    {
        Folder = new RunFolder(Path.Combine(_folder, "run"));
        ConfigFile = Path.Combine(_folder, "tiny.yaml");
        File.WriteAllText(Path.Combine(_folder, "text.txt"), string.Concat(Enumerable.Repeat("All the world's a stage.\n", 4000)));
        File.WriteAllText(ConfigFile, "data:\n  domains:\n    - {name: text, path: text.txt}\n");
    }

    public RunFolder Folder { get; }

    public string ConfigFile { get; }

    public string Output => Text(_output);

    public string Error => Text(_error);

    public Dictionary<string, string?> Environment { get; } = new()
    {
        ["NO_COLOR"] = null,
        ["TERM"] = "xterm-256color",
        ["LC_ALL"] = "C.UTF-8",

        // The tests may themselves run in a job.
        ["SLURM_JOB_ID"] = null,
        ["SLURM_STEP_ID"] = null,
        ["MOE_RDZV"] = null,
        ["MOE_RDZV_TOKEN"] = null,
        ["MOE_NODE_RANK"] = null,
        ["MOE_SSH"] = null,
    };

    /// <summary>A folder for this run's other files, removed with it.</summary>
    public string Scratch => _folder;

    /// <summary>Writes a program that is found first on PATH.</summary>
    public void AddProgram(string name, string script)
    {
        var folder = Directory.CreateDirectory(Path.Combine(_folder, "bin")).FullName;
        var file = Path.Combine(folder, name);
        File.WriteAllText(file, script);
        using (var chmod = Process.Start("chmod", ["+x", file]))
        {
            chmod.WaitForExit();
        }

        Environment["PATH"] = $"{folder}:{System.Environment.GetEnvironmentVariable("PATH")}";
    }

    /// <summary>run.json as it stands.</summary>
    public JsonElement Record => JsonDocument.Parse(File.ReadAllText(Folder.RunFile)).RootElement;

    /// <summary>Processes that belong to the run, found by what the launcher put in their environment.</summary>
    public IReadOnlyList<int> Processes => ProcessesWith($"MOE_RUN_DIR={Folder.Path}\0");

    /// <summary>Processes of all runs in folders below one.</summary>
    public static IReadOnlyList<int> ProcessesBelow(string folder) => ProcessesWith($"MOE_RUN_DIR={folder}/");

    private static IReadOnlyList<int> ProcessesWith(string text, string file = "environ") =>
    [
        .. Directory.EnumerateDirectories("/proc")
            .Where(folder => int.TryParse(Path.GetFileName(folder), out _) && ReadOrEmpty(Path.Combine(folder, file)).Contains(text, StringComparison.Ordinal))
            .Select(folder => int.Parse(Path.GetFileName(folder))),
    ];

    /// <summary>Starts the launcher on the tiny configuration and this folder.</summary>
    public LaunchedRun Start(string behaviour, params string[] arguments) =>
        StartBare(behaviour, ["--config", ConfigFile, "--run-dir", Folder.Path, .. arguments]);

    /// <summary>Starts the launcher with these arguments alone.</summary>
    public LaunchedRun StartBare(string behaviour, params string[] arguments) => StartProcess("dotnet", Command(behaviour, arguments));

    /// <summary>Starts the launcher in another folder than this run's own.</summary>
    public LaunchedRun StartElsewhere(string folder, string behaviour, params string[] arguments) => StartProcess("dotnet", Command(behaviour, arguments), folder);

    /// <summary>Starts the launcher from a shell command in which <c>$LAUNCH</c> stands for it, as users do with pipes, nohup and ulimit.</summary>
    public LaunchedRun StartInShell(string script, string behaviour, params string[] arguments)
    {
        Environment["LAUNCH"] = "dotnet " + string.Join(' ', Command(behaviour, ["--config", ConfigFile, "--run-dir", Folder.Path, .. arguments]));
        return StartProcess("bash", ["-c", script]);
    }

    /// <summary>Starts the launch command itself, with real ranks.</summary>
    public LaunchedRun StartTrainer(params string[] arguments) =>
        StartProcess("dotnet", ["exec", Path.Combine(AppContext.BaseDirectory, "launch.dll"), .. arguments]);

    /// <summary>Starts a shell command in which <c>$LAUNCH</c> stands for the launch command itself.</summary>
    public LaunchedRun StartShellTrainer(string script)
    {
        Environment["LAUNCH"] = "dotnet exec " + Path.Combine(AppContext.BaseDirectory, "launch.dll");
        return StartProcess("bash", ["-c", script]);
    }

    /// <summary>Starts a rank by itself, as torchrun or srun would.</summary>
    public LaunchedRun StartRank(params string[] arguments) =>
        StartProcess("dotnet", ["exec", Path.Combine(AppContext.BaseDirectory, "Moe.Training.dll"), .. arguments]);

    /// <summary>The process of a rank itself, not the shell that mpirun starts around it.</summary>
    public int ProcessOfRank(int rank) => Processes.Single(process =>
        ReadOrEmpty($"/proc/{process}/comm").StartsWith("dotnet", StringComparison.Ordinal)
        && ReadOrEmpty($"/proc/{process}/environ").Split('\0').Any(variable => variable == $"RANK={rank}" || variable == $"OMPI_COMM_WORLD_RANK={rank}"));

    /// <summary>Signals any process of the run.</summary>
    public static void SignalProcess(int process, int signal) => _ = Kill(process, signal);

    /// <summary>Starts the launcher on a terminal of its own, whose screen then is <see cref="Output"/>.</summary>
    public LaunchedRun StartOnTerminal(int columns, string behaviour, params string[] arguments) =>
        StartOnTerminalBare(columns, behaviour, ["--config", ConfigFile, "--run-dir", Folder.Path, .. arguments]);

    /// <inheritdoc cref="StartOnTerminal"/>
    public LaunchedRun StartOnTerminalBare(int columns, string behaviour, params string[] arguments) =>
        StartOnTerminalAfter($"stty cols {columns} rows 30", behaviour, arguments);

    /// <summary>Starts the launcher on a terminal of its own that a shell command has set up.</summary>
    public LaunchedRun StartOnTerminalAfter(string setUp, string behaviour, params string[] arguments)
    {
        var command = string.Join(' ', Command(behaviour, arguments).Select(word => $"'{word}'"));
        return StartProcess("script", ["--quiet", "--return", "--command", $"{setUp}; exec dotnet {command}", "/dev/null"]);
    }

    private static string[] Command(string behaviour, string[] arguments) =>
        ["exec", typeof(LaunchedRun).Assembly.Location, FakeLauncher.Command, behaviour, .. arguments];

    private LaunchedRun StartProcess(string program, string[] arguments, string? folder = null)
    {
        _output.Clear();
        _error.Clear();
        // What runs the tests may ignore signals, as a shell has its background jobs ignore SIGINT; children inherit that.
        var start = new ProcessStartInfo("/usr/bin/env", ["--default-signal", Located(program), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = folder ?? _folder,
        };
        foreach (var (name, value) in Environment)
        {
            start.Environment[name] = value;
        }

        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => Append(_output, line.Data);
        _process.ErrorDataReceived += (_, line) => Append(_error, line.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        return this;
    }

    // By this process's PATH: the child's may be a test's own.
    private static string Located(string program) => Path.IsPathRooted(program)
        ? program
        : (System.Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Select(folder => Path.Combine(folder, program)).First(File.Exists);

    /// <summary>Waits for the launcher's end.</summary>
    /// <returns>Its exit code.</returns>
    public int End()
    {
        if (!_process!.WaitForExit(Patience))
        {
            _process.Kill();
            Assert.Fail($"the launcher did not end within {Patience}; it printed\n{Output}\n{Error}");
        }

        _process.WaitForExit(); // the output too
        return _process.ExitCode;
    }

    /// <summary>Waits until the launcher has printed a text to standard output.</summary>
    public LaunchedRun Until(string text)
    {
        Wait(() => Output.Contains(text, StringComparison.Ordinal), $"'{text}' in the output");
        return this;
    }

    /// <summary>Waits for a condition.</summary>
    public void Wait(Func<bool> condition, string what)
    {
        for (var clock = Stopwatch.StartNew(); !condition(); Thread.Sleep(20))
        {
            if (clock.Elapsed > Patience)
            {
                Assert.Fail($"waited {Patience} in vain for {what}; the launcher printed\n{Output}\n{Error}");
            }
        }
    }

    /// <summary>Signals the launcher alone.</summary>
    public LaunchedRun Signal(int signal)
    {
        _ = Kill(_process!.Id, signal);
        return this;
    }

    public void Dispose()
    {
        if (_process is { HasExited: false })
        {
            _process.Kill();
        }

        // Launchers of a sweep's points outlive it for a moment, and write; only their command lines name the folder.
        Wait(() => End([.. ProcessesWith(_folder), .. ProcessesWith(_folder, "cmdline")]) == 0, "the end of its processes");
        _process?.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static int End(IReadOnlyList<int> processes)
    {
        foreach (var process in processes)
        {
            _ = Kill(process, 9);
        }

        return processes.Count;
    }

    private static void Append(StringBuilder text, string? line)
    {
        lock (text)
        {
            _ = line is null ? text : text.Append(line).Append('\n');
        }
    }

    private static string Text(StringBuilder text)
    {
        lock (text)
        {
            return text.ToString();
        }
    }

    private static string ReadOrEmpty(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return ""; // it ended, or is not ours
        }
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);
}
