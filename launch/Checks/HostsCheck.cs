using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Moe.Launch.Terminal;

namespace Moe.Launch.Checks;

/// <summary>The other machines of a job: names, clocks, the shared folder, and the network to each, by a listener that is started there.</summary>
internal sealed class HostsCheck : Check
{
    private const int SecondsAHost = 40;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Skew = TimeSpan.FromSeconds(1);

    public override string Name => "hosts";

    // All are looked at at once.
    public override TimeSpan Limit => TimeSpan.FromSeconds(SecondsAHost + 10);

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        var hosts = context.Hosts.Count > 0 ? context.Hosts : FromSlurm(context);
        if (hosts.Count == 0)
        {
            return [Finding.Skipped("hosts: none was named (--hosts a,b), and this is no Slurm job")];
        }

        if (HostCommand.Find(context) is not { } shell)
        {
            return [.. hosts.Select(Resolve), new Finding(Verdict.Fails, "hosts: neither ssh nor, in a Slurm job, srun is on PATH", "apt-get install openssh-client")];
        }

        var marker = Path.Combine(context.RunsFolder, $".doctor-hosts-{Environment.ProcessId}");
        Directory.CreateDirectory(marker);
        try
        {
            var each = hosts.Select(host => Task.Factory.StartNew(() => Look(host, shell, context, marker), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToArray();
            Task.WaitAll(each, TimeSpan.FromSeconds(SecondsAHost));
            return [.. each.Zip(hosts).SelectMany(pair => pair.First.IsCompletedSuccessfully
                ? pair.First.Result
                : [new Finding(Verdict.Fails, $"host {pair.Second}: {pair.First.Exception?.InnerException?.Message ?? $"no answer within {SecondsAHost} s"}", $"{shell.Name} {pair.Second} hostname")])];
        }
        finally
        {
            Directory.Delete(marker, recursive: true);
        }
    }

    private static string[] FromSlurm(DoctorContext context) =>
        context.Variable("SLURM_JOB_NODELIST") is { } list && context.Program("scontrol") is { } scontrol
            && ProgramRun.Of(scontrol, ["show", "hostnames", list], TimeSpan.FromSeconds(5)) is { Succeeded: true } answer
                ? answer.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
                : [];

    private static List<Finding> Look(string host, HostCommand shell, DoctorContext context, string marker)
    {
        var name = Resolve(host);
        var found = new List<Finding> { name };
        var hello = shell.Run(host, "echo doctor", Patience);
        if (!hello.Succeeded || hello.FirstLine != "doctor")
        {
            found.Add(new Finding(Verdict.Fails, $"host {host}: {shell.Name} does not run a command there: {hello.Trouble}", shell.Name == "ssh" ? $"ssh-copy-id {host}; ssh -o BatchMode=yes {host} hostname" : $"srun -w {host} hostname"));
            return found;
        }

        found.Add(Clock(host, shell));
        found.Add(Folder(host, shell, marker));
        if (name.Verdict == Verdict.Works)
        {
            found.Add(Network(host, shell, context));
        }

        return found;
    }

    private static Finding Resolve(string host)
    {
        try
        {
            return Finding.Works($"host {host}: {string.Join(", ", Dns.GetHostAddresses(host).Select(address => address.ToString()))}");
        }
        catch (SocketException e)
        {
            return new Finding(Verdict.Fails, $"host {host}: its name does not resolve: {e.Message}", "/etc/hosts, or the address itself");
        }
    }

    // The other clock is read somewhere between the question and the answer.
    private static Finding Clock(string host, HostCommand shell)
    {
        var asked = DateTime.UtcNow;
        var answer = shell.Run(host, "date +%s.%N", Patience);
        var took = DateTime.UtcNow - asked;
        if (!answer.Succeeded || !double.TryParse(answer.FirstLine, NumberStyles.Float, CultureInfo.InvariantCulture, out var seconds))
        {
            return new Finding(Verdict.Warns, $"host {host}: its clock cannot be read: {answer.Trouble}", $"{shell.Name} {host} date");
        }

        var skew = (DateTime.UnixEpoch.AddSeconds(seconds) - (asked + (took / 2))).TotalSeconds;
        var doubt = took.TotalSeconds / 2;
        var text = MetricText.Invariant($"host {host}: clock {skew:+0.000;-0.000} s from here, give or take {doubt:F3}");
        return Math.Abs(skew) > Skew.TotalSeconds + doubt ? new Finding(Verdict.Warns, text, $"timedatectl set-ntp true on {host}") : Finding.Works(text);
    }

    // What is written here is read there, and the other way round.
    private static Finding Folder(string host, HostCommand shell, string marker)
    {
        var (here, there) = (Path.Combine(marker, $"{host}-here"), Path.Combine(marker, $"{host}-there"));
        var secret = Guid.NewGuid().ToString("N");
        File.WriteAllText(here, secret);
        var answer = shell.Run(host, $"cat '{here}' && printf %s {secret} > '{there}'", Patience);
        if (!answer.Output.Contains(secret, StringComparison.Ordinal))
        {
            return new Finding(Verdict.Fails, $"host {host}: {Path.GetDirectoryName(marker)} is not the same folder there: a file written here is not seen", "a shared file system, or the same checkout and data on each host with its own --run-dir");
        }

        // An NFS client may keep a folder's listing for some seconds.
        for (var clock = Stopwatch.StartNew(); clock.Elapsed < TimeSpan.FromSeconds(5); Thread.Sleep(100))
        {
            if (File.Exists(there) && File.ReadAllText(there) == secret)
            {
                return Finding.Works($"host {host}: the folder of runs is the same");
            }
        }

        return new Finding(Verdict.Fails, $"host {host}: it reads {Path.GetDirectoryName(marker)}, but what it writes is not seen here: {answer.Trouble}", "mount it writable there, with the same user");
    }

    // This program listens there, if it is there: the folder that it lies in is usually shared.
    private static Finding Network(string host, HostCommand shell, DoctorContext context)
    {
        using var process = shell.Start(host, $"{AnswerCommand.Line} {(int)Patience.TotalSeconds}");
        try
        {
            process.StandardInput.Close();
            var line = process.StandardOutput.ReadLineAsync();
            if (!line.Wait(Patience) || line.Result is not { } port || !int.TryParse(port, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
            {
                return new Finding(Verdict.Warns, $"host {host}: no listener starts there, so its network was not measured", "the same build, and .NET, in the same place there");
            }

            var address = Dns.GetHostAddresses(host).OrderBy(one => one.AddressFamily == AddressFamily.InterNetwork ? 0 : 1).First();
            var rate = NetworkProbe.Measure(address, number);
            return Finding.Works(MetricText.Invariant($"host {host}: port {number} is reached, {rate.RoundTrip.TotalMicroseconds:F0} us there and back, {rate.BytesPerSecond / 1e9:F2} GB/s"));
        }
        catch (Exception e) when (e is SocketException or IOException)
        {
            return new Finding(Verdict.Fails, $"host {host}: a listener there is not reached from here: {e.Message}", "open the ports between the hosts (firewall), or name the address of the right network");
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }
        }
    }
}
