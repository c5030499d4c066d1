using System.Diagnostics;

namespace Moe.Launch.Checks;

/// <summary>Runs a command on another machine: through srun within a Slurm job, else through ssh without a question.</summary>
internal sealed class HostCommand
{
    private readonly string _program;
    private readonly bool _isSlurm;

    private HostCommand(string program, bool isSlurm) => (_program, _isSlurm) = (program, isSlurm);

    /// <summary>As in <c>ssh</c>.</summary>
    public string Name => Path.GetFileName(_program);

    /// <summary>What this machine has; null where it has neither.</summary>
    public static HostCommand? Find(DoctorContext context)
    {
        if (context.Variable("SLURM_JOB_ID") is not null && context.Program("srun") is { } srun)
        {
            return new HostCommand(srun, isSlurm: true);
        }

        return context.Program("ssh") is { } ssh ? new HostCommand(ssh, isSlurm: false) : null;
    }

    /// <summary>Runs a line of shell there, to its end or the limit.</summary>
    public ProgramRun Run(string host, string line, TimeSpan limit) => ProgramRun.Of(_program, Arguments(host, line), limit);

    /// <summary>Starts a line of shell there; the caller ends it.</summary>
    public Process Start(string host, string line) => Process.Start(
        new ProcessStartInfo(_program, Arguments(host, line)) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true })!;

    private IEnumerable<string> Arguments(string host, string line) => _isSlurm
        ? ["--overlap", "--nodes=1", "--ntasks=1", $"--nodelist={host}", "sh", "-c", line]
        : ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", host, line];
}
