using System.CommandLine;
using System.Diagnostics;
using System.Text.RegularExpressions;
using Moe.Launch.Checks;
using Moe.Launch.Hosts;
using Moe.Launch.Runs;
using Moe.Launch.Slurm;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Launch.Commands;

/// <summary><c>launch slurm render</c> and <c>launch slurm submit</c>: the script of a job that trains, is requeued at its time limit, and continues.</summary>
internal sealed partial class SlurmCommand
{
    private readonly Option<string?> _config = RunOptions.ConfigOption();
    private readonly Option<string[]> _set = RunOptions.SetOption();
    private readonly Option<int> _nodes = RunOptions.Count("--nodes", "Number of nodes.");
    private readonly Option<int?> _perNode = OptionValues.OptionalWhole("--procs-per-node", "Ranks of a node. Default: --gpus-per-node, else 1.", 1, RunOptions.Most);
    private readonly Option<string> _tasks = OptionValues.Choice("--tasks", "What Slurm's tasks are: one launcher a node, which starts its ranks, or the ranks themselves.", "launchers", "ranks");
    private readonly Option<int?> _gpus = OptionValues.OptionalWhole("--gpus-per-node", "GPUs of a node.", 1, 1024);
    private readonly Option<string> _time = TimeLimit();
    private readonly Option<string?> _partition = Word("--partition", "As for sbatch.");
    private readonly Option<string?> _account = Word("--account", "As for sbatch.");
    private readonly Option<string?> _quality = Word("--qos", "As for sbatch.");
    private readonly Option<string?> _memory = Word("--mem", "Memory of a node, such as 32G; 0 for all of it.");
    private readonly Option<int?> _cpus = OptionValues.OptionalWhole("--cpus-per-task", "Cores of a task, see --tasks.", 1, 65536);
    private readonly Option<string> _jobName = Text("--job-name", "Name of the job, and of its run folder.", "NAME", "moe");
    private readonly Option<string> _output = Text("--output", "The job's log; %x is its name, %j its number. Its folder must exist.", "FILE", "%x-%j.out");
    private readonly Option<int> _requeues = OptionValues.Whole("--max-requeues", "How often it goes back to the queue at its time limit.", 10, 0, int.MaxValue);
    private readonly Option<string[]> _further = new("--sbatch") { Description = "A further option of sbatch, such as --sbatch=--constraint=a100; may be repeated.", HelpName = "OPTION", DefaultValueFactory = _ => [] };
    private readonly Option<string?> _runFolder = Word("--run-dir", "The run folder. Default: runs/JOBNAME-JOBID.");
    private readonly Option<string> _backend = OptionValues.Choice("--backend", "How ranks talk.", BackendNames.Auto, BackendNames.Mpi, BackendNames.Gloo, BackendNames.Nccl);
    private readonly Option<string> _resume = Text("--resume", "What the first turn continues from; later ones continue the run itself.", "auto|none|PATH", "auto");

    private SlurmCommand()
    {
        OneLine(_config);
        OneLine(_further);
    }

    public static Command Create(LaunchHost host)
    {
        var command = new Command("slurm", "Writes and submits jobs for Slurm.");
        command.Subcommands.Add(new SlurmCommand().Render(host));
        command.Subcommands.Add(new SlurmCommand().Submit(host));
        return command.WithExamples(
            "launch slurm render --config my.yaml --nodes 4 --procs-per-node 2 --time 02:00:00 -o job.sbatch",
            "launch slurm submit --config my.yaml --nodes 4 --procs-per-node 2 --time 02:00:00");
    }

    private Command Render(LaunchHost host)
    {
        var target = new Option<string?>("--write", "-o") { Description = "The file to write. Default: standard output.", HelpName = "FILE" };
        var command = AddOptions(new Command("render", "Writes the script of a job: to be read, changed, and given to sbatch."));
        command.Options.Add(target);
        command.SetAction(result =>
        {
            var script = SbatchScript.Write(Read(result, host));
            if (result.GetValue(target) is { } file)
            {
                OutputArgument.Write(file, script, host);
                host.Screen.Error.WriteLine($"written: {file}; to submit it: sbatch {ShellWords.Quote(file)}");
            }
            else
            {
                host.Screen.Output.Write(script);
            }

            return ExitCodes.Done;
        });
        return command.WithExamples(
            "launch slurm render --config my.yaml --nodes 4 --procs-per-node 2 --time 02:00:00 -o job.sbatch",
            "launch slurm render --nodes 4 --gpus-per-node 8 --partition gpu --set parallel.device=cuda",
            "launch slurm render --nodes 4 --procs-per-node 2 --tasks ranks --backend mpi");
    }

    private Command Submit(LaunchHost host)
    {
        var dryRun = new Option<bool>("--dry-run") { Description = "Only shows the script and the command." };
        var command = AddOptions(new Command("submit", "Gives the script that render writes to sbatch, and says how to watch the job."));
        command.Options.Add(dryRun);
        command.SetAction(result =>
        {
            var options = Read(result, host);
            var script = SbatchScript.Write(options);
            if (result.GetValue(dryRun))
            {
                host.Screen.Output.Write(script);
                host.Screen.Error.WriteLine("not submitted (--dry-run); without it the script above goes to: sbatch --parsable");
                return ExitCodes.Done;
            }

            var job = Hand(script, host);
            var log = options.Output.Replace("%x", options.JobName, StringComparison.Ordinal).Replace("%j", job, StringComparison.Ordinal);
            host.Screen.Output.WriteLine($"job={job} log={log} run={options.RunFolder ?? $"{options.RunsFolder}/{options.JobName}-{job}"}");
            host.Screen.Output.WriteLine($"  watch    squeue --jobs {job}; tail --follow=name --retry {log}");
            host.Screen.Output.WriteLine($"  stop     scancel --batch --signal=USR1 {job}   (saves, and is requeued)");
            host.Screen.Output.WriteLine($"  cancel   scancel {job}   (saves, and is not)");
            return ExitCodes.Done;
        });
        return command.WithExamples(
            "launch slurm submit --config my.yaml --nodes 4 --procs-per-node 2 --time 02:00:00",
            "launch slurm submit --nodes 2 --dry-run");
    }

    private Command AddOptions(Command command)
    {
        foreach (var option in new Option[]
        {
            _config, _nodes, _perNode, _tasks, _gpus, _time, _partition, _account, _quality, _memory, _cpus, _jobName, _output, _requeues, _further, _runFolder, _backend, _resume, _set,
        })
        {
            command.Options.Add(option);
        }

        return command;
    }

    private SbatchOptions Read(ParseResult result, LaunchHost host)
    {
        var config = DefaultConfig.Resolve(result.GetValue(_config), host);
        var overrides = result.GetValue(_set) ?? [];
        var gpus = result.GetValue(_gpus) ?? 0;
        var perNode = result.GetValue(_perNode) ?? Math.Max(gpus, 1);
        var nodes = result.GetValue(_nodes);
        var device = Preflight.Configuration(Path.GetFullPath(config, host.WorkingDirectory), overrides, nodes, perNode).Config.Parallel.Device;
        if (gpus > 0 && device == DeviceName.Cpu)
        {
            throw new LaunchException(
                ExitCodes.Usage, $"--gpus-per-node {gpus} asks for GPUs, but parallel.device is cpu: they would stand idle", "--set parallel.device=cuda, or leave --gpus-per-node out");
        }

        var backend = result.GetValue(_backend)!;
        Preflight.DemandDevice(backend, device);
        var isTaskPerRank = result.GetValue(_tasks) == "ranks";
        if (backend == BackendNames.Mpi && !isTaskPerRank && nodes > 1)
        {
            throw new LaunchException(ExitCodes.Usage, "--backend mpi does not go with --tasks launchers: MPI wants to start all ranks itself", "--tasks ranks, or --backend gloo or nccl");
        }

        return new SbatchOptions(host.Shorten(Path.GetFullPath(config, host.WorkingDirectory)), nodes, perNode, host.CommandWords)
        {
            TaskPerRank = isTaskPerRank,
            JobName = result.GetValue(_jobName)!,
            GpusPerNode = gpus,
            Time = result.GetValue(_time)!,
            Partition = result.GetValue(_partition),
            Account = result.GetValue(_account),
            Quality = result.GetValue(_quality),
            Memory = result.GetValue(_memory),
            CpusPerTask = result.GetValue(_cpus),
            Output = result.GetValue(_output)!,
            MaxRequeues = result.GetValue(_requeues),
            Further = result.GetValue(_further) ?? [],
            RunFolder = result.GetValue(_runFolder),
            RunsFolder = host.Shorten(Repository.RunsFolder(host.WorkingDirectory)),
            Backend = backend,
            Resume = result.GetValue(_resume)!,
            Overrides = overrides,
        };
    }

    private static string Hand(string script, LaunchHost host)
    {
        if (Executables.Find("sbatch", host.Variable) is null)
        {
            throw new LaunchException(ExitCodes.Preflight, "sbatch is not installed on this machine", "a login node of the cluster; launch slurm render writes the script for it");
        }

        using var sbatch = Process.Start(new ProcessStartInfo("sbatch", ["--parsable"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = host.WorkingDirectory,
        })!;
        var said = sbatch.StandardError.ReadToEndAsync();
        var answer = sbatch.StandardOutput.ReadToEndAsync();
        try
        {
            sbatch.StandardInput.Write(script);
            sbatch.StandardInput.Close();
        }
        catch (IOException)
        {
            // It has ended without reading; its words say why.
        }

        sbatch.WaitForExit();
        if (sbatch.ExitCode != 0)
        {
            throw new LaunchException(ExitCodes.Preflight, $"sbatch refuses the job: {said.Result.Trim().ReplaceLineEndings("; ")}", "the options of this command; launch slurm submit --dry-run shows the script");
        }

        return answer.Result.Trim().Split(';')[0]; // number;cluster on federations
    }

    private static Option<string?> Word(string name, string description)
    {
        var option = new Option<string?>(name) { Description = description, HelpName = name == "--run-dir" ? "DIR" : name.TrimStart('-').ToUpperInvariant() };
        OneLine(option);
        return option;
    }

    private static Option<string> Text(string name, string description, string form, string standard)
    {
        var option = new Option<string>(name) { Description = description, HelpName = form, DefaultValueFactory = _ => standard };
        OneLine(option);
        return option;
    }

    private static Option<string> TimeLimit()
    {
        var option = Text("--time", "Time limit of one turn in the queue, in minutes or [D-]HH:MM:SS.", "TIME", "01:00:00");
        option.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && !SlurmTime().IsMatch(token.Value))
            {
                result.AddError(
                    $"--time takes minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds or UNLIMITED, as in 90, 02:00:00 or 1-12, not '{token.Value}'.");
            }
        });
        return option;
    }

    // The forms of sbatch's manual; Slurm itself takes 90 minutes as 90:00 and as 00:90:00.
    [GeneratedRegex(@"^(\d{1,6}(:\d{1,2}){0,2}|\d{1,6}-\d{1,2}(:\d{1,2}){0,2}|UNLIMITED)\z", RegexOptions.ECMAScript | RegexOptions.IgnoreCase)]
    private static partial Regex SlurmTime();

    // A line end or a blank would begin a line, or an option, of its own in the script.
    private static void OneLine(Option option) => option.Validators.Add(result =>
    {
        var mayHaveBlanks = option.Name is "--run-dir" or "--resume" or "--config" or "--sbatch";
        foreach (var value in result.Tokens.Select(token => token.Value))
        {
            if (value.Length == 0 || (!mayHaveBlanks && value.Any(char.IsWhiteSpace)) || value.Any(char.IsControl))
            {
                result.AddError($"{option.Name} must be one {(mayHaveBlanks ? "line" : "word")}, not '{value.ReplaceLineEndings(" ")}'.");
            }
        }
    });
}
