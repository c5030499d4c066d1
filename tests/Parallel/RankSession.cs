using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Moe.Tests.Distributed;

/// <summary>A process and all its descendants, as a session of the system: whatever they do, they can be found and ended.</summary>
public sealed class RankSession : IDisposable
{
    private static readonly TimeSpan LeavingTime = TimeSpan.FromSeconds(1);

    private readonly Process _process;
    private readonly StringBuilder _output = new();

    private RankSession(Process process)
    {
        _process = process;
        process.OutputDataReceived += Append;
        process.ErrorDataReceived += Append;
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        process.StandardInput.Close();
    }

    /// <summary>Of the first process; only once it has ended.</summary>
    public int ExitCode => _process.ExitCode;

    /// <summary>What the first process, and those that share its console, wrote.</summary>
    public string Output
    {
        get
        {
            lock (_output)
            {
                return _output.ToString();
            }
        }
    }

    /// <summary>Starts a program in a session of its own, whose number is the program's process id.</summary>
    public static RankSession Start(string[] command)
    {
        var start = new ProcessStartInfo("setsid", command)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
        start.Environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
        start.Environment["OMPI_MCA_mpi_yield_when_idle"] = "1"; // ranks outnumber cores
        start.Environment["OMP_NUM_THREADS"] = "1";
        return new RankSession(new Process { StartInfo = start });
    }

    /// <returns>Whether the first process ended in time.</returns>
    public bool WaitForExit(TimeSpan timeout) => _process.WaitForExit(timeout > TimeSpan.Zero ? timeout : TimeSpan.Zero);

    /// <summary>Processes of the session that are still there after a second to leave.</summary>
    public int Leftovers()
    {
        var clock = Stopwatch.StartNew();
        var left = Members();
        while (left.Length > 0 && clock.Elapsed < LeavingTime)
        {
            Thread.Sleep(20);
            left = Members();
        }

        return left.Length;
    }

    /// <summary>Ends every process of the session at once.</summary>
    public void Kill()
    {
        foreach (var id in Members())
        {
            try
            {
                using var member = Process.GetProcessById(id);
                member.Kill();
            }
            catch (Exception e) when (e is ArgumentException or InvalidOperationException or Win32Exception)
            {
                // It has ended by itself in between.
            }
        }

        _process.WaitForExit();
    }

    public void Dispose() => _process.Dispose();

    private int[] Members() => [.. Directory.EnumerateDirectories("/proc")
        .Select(folder => int.TryParse(Path.GetFileName(folder), CultureInfo.InvariantCulture, out var id) ? id : 0)
        .Where(id => id != 0 && SessionOf(id) == _process.Id)];

    // /proc/ID/stat: id (name) state parent group session ...; the name may itself hold blanks and brackets.
    private static int SessionOf(int id)
    {
        try
        {
            var stat = File.ReadAllText($"/proc/{id}/stat");
            var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return fields[0] == "Z" ? 0 : int.Parse(fields[3], CultureInfo.InvariantCulture);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return 0; // it has ended
        }
    }

    private void Append(object sender, DataReceivedEventArgs line)
    {
        lock (_output)
        {
            _output.AppendLine(line.Data);
        }
    }
}
