using System.Diagnostics;
using Moe.Launch.Hosts;
using Moe.Launch.Slurm;

namespace Moe.Launch.Supervision;

/// <summary>A child of the launcher that leads a session of its own: a rank, the ssh of a rank elsewhere, or mpirun or srun for all ranks.</summary>
/// <remarks>
/// Its own session keeps the terminal's Ctrl-C from it: the launcher alone hears that and tells the ranks, which then agree on a step to stop at.
/// </remarks>
internal sealed class SpawnedProcess : IDisposable
{
    private const int KeptLines = 40;

    // How long the other end of an ssh may take to kill its rank before the ssh itself is killed.
    private static readonly TimeSpan RemoteKillPatience = TimeSpan.FromSeconds(3);

    private readonly Process _process;
    private readonly Queue<string> _lastLines = new();
    private readonly TextWriter _log;
    private readonly Action<string>? _line;
    private readonly string _name;
    private readonly bool _isRemote;
    private readonly Stopwatch _dying = new();
    private string? _step;

    private SpawnedProcess(Process process, string program, int? rank, TextWriter log, Action<string>? line, bool isRemote)
    {
        _isRemote = isRemote;
        _process = process;
        _log = log;
        _line = line;
        _name = rank is null ? program : $"rank {rank}";
        Rank = rank;
        Id = process.Id;
        Ended = WaitAsync();
    }

    /// <summary>The rank, or null for mpirun or srun, which hold them all.</summary>
    public int? Rank { get; }

    /// <summary>Process id and id of the session.</summary>
    public int Id { get; }

    /// <summary>Completes with the exit code (128 + n after signal n) when the process has ended and its output is read.</summary>
    public Task<int> Ended { get; }

    /// <summary>What it printed last, oldest first, before its output went to a rank log (or instead).</summary>
    public IReadOnlyList<string> LastLines
    {
        get
        {
            lock (_lastLines)
            {
                return [.. _lastLines];
            }
        }
    }

    /// <summary>Starts a program under <c>setsid</c>, which replaces itself by it: the process id stays.</summary>
    /// <param name="command">The program and its arguments.</param>
    /// <param name="environment">Variables to set, or to remove where the value is null.</param>
    /// <param name="rank">The rank that it is, if it is one.</param>
    /// <param name="log">A synchronized writer for what it prints.</param>
    /// <param name="line">Told each line that it prints.</param>
    /// <param name="greeting">For a <see cref="RemoteShell"/>: the first lines of its input, which then stays open for signals.</param>
    public static SpawnedProcess Start(
        IReadOnlyList<string> command,
        IReadOnlyDictionary<string, string?> environment,
        int? rank,
        TextWriter log,
        Action<string>? line = null,
        IReadOnlyList<string>? greeting = null)
    {
        var start = new ProcessStartInfo("setsid", command)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        var process = Process.Start(start)!;
        var spawned = new SpawnedProcess(process, command[0], rank, log, line, greeting is not null);
        if (greeting is null)
        {
            process.StandardInput.Close();
        }
        else
        {
            spawned.Write(string.Join('\n', greeting));
        }

        return spawned;
    }

    /// <summary>Signals the process and everything in its session, on whichever machine that is.</summary>
    public void Signal(int signal)
    {
        if (signal == ProcessSession.Kill)
        {
            _dying.Start();
            KillStep();
        }

        if (_isRemote && _dying.Elapsed < RemoteKillPatience)
        {
            Write(RemoteShell.Line(signal));
        }
        else
        {
            ProcessSession.Signal(Id, signal);
        }
    }

    public void Dispose() => _process.Dispose();

    private void Write(string line)
    {
        try
        {
            _process.StandardInput.Write(line + "\n");
            _process.StandardInput.Flush();
        }
        catch (IOException)
        {
            // It has ended, which Ended tells.
        }
    }

    // A task that is stopped does not hear srun, and would outlive it.
    private void KillStep()
    {
        if (Interlocked.Exchange(ref _step, null) is { } step)
        {
            using var cancel = Process.Start(new ProcessStartInfo("scancel", ["--signal=KILL", step]) { RedirectStandardError = true, RedirectStandardOutput = true });
        }
    }

    private async Task<int> WaitAsync()
    {
        var output = Task.WhenAll(CopyAsync(_process.StandardOutput), CopyAsync(_process.StandardError));
        await _process.WaitForExitAsync().ConfigureAwait(false);

        // A grandchild may hold the pipes open for ever; what the process itself said is read by now.
        await Task.WhenAny(output, Task.Delay(TimeSpan.FromSeconds(1))).ConfigureAwait(false);
        return _process.ExitCode;
    }

    // A full disk must not end the reading: a child whose output nobody takes would block.
    private void Log(string line)
    {
        try
        {
            _log.WriteLine($"{_name}: {line}");
        }
        catch (IOException)
        {
            // The line is still among the last ones, for the failure report.
        }
    }

    private async Task CopyAsync(StreamReader reader)
    {
        while (await reader.ReadLineAsync().ConfigureAwait(false) is { } line)
        {
            _line?.Invoke(line);
            _step = line.StartsWith(SrunCommand.StepMark, StringComparison.Ordinal) ? line[SrunCommand.StepMark.Length..] : _step;
            Log(line);
            lock (_lastLines)
            {
                _lastLines.Enqueue(line);
                if (_lastLines.Count > KeptLines)
                {
                    _lastLines.Dequeue();
                }
            }
        }
    }
}
