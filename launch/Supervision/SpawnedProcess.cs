using System.Diagnostics;

namespace Moe.Launch.Supervision;

/// <summary>A child of the launcher that leads a session of its own: a rank under Gloo, mpirun under MPI.</summary>
/// <remarks>
/// Its own session keeps the terminal's Ctrl-C from it: the launcher alone hears that and tells the ranks, which then agree on a step to stop at.
/// </remarks>
internal sealed class SpawnedProcess : IDisposable
{
    private const int KeptLines = 40;

    private readonly Process _process;
    private readonly Queue<string> _lastLines = new();
    private readonly TextWriter _log;
    private readonly Action<string>? _line;
    private readonly string _name;

    private SpawnedProcess(Process process, int? rank, TextWriter log, Action<string>? line)
    {
        _process = process;
        _log = log;
        _line = line;
        _name = rank is null ? "mpirun" : $"rank {rank}";
        Rank = rank;
        Id = process.Id;
        Ended = WaitAsync();
    }

    /// <summary>The rank, or null for mpirun, which holds them all.</summary>
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
    public static SpawnedProcess Start(
        IEnumerable<string> command, IReadOnlyDictionary<string, string?> environment, int? rank, TextWriter log, Action<string>? line = null)
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
        process.StandardInput.Close();
        return new SpawnedProcess(process, rank, log, line);
    }

    /// <summary>Signals the process and everything in its session.</summary>
    public void Signal(int signal) => ProcessSession.Signal(Id, signal);

    public void Dispose() => _process.Dispose();

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
