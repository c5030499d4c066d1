using System.Globalization;

namespace Moe.Launch.Checks;

/// <summary>Ports that are taken by habit: torchrun's 29500 or MASTER_PORT, and the live page's; by whom they are in use.</summary>
internal sealed class PortCheck : Check
{
    private const int TorchrunPort = 29500, PagePort = 5080;
    private const string Listening = "0A";
    private static readonly string[] Tables = ["/proc/net/tcp", "/proc/net/tcp6"];

    public override string Name => "ports";

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        var named = context.Variable("MASTER_PORT");
        if (named is not null && !(int.TryParse(named, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number is > 0 and < 65536))
        {
            yield return new Finding(Verdict.Fails, $"ports: MASTER_PORT is '{named}', no port", "export MASTER_PORT=29500");
            named = null;
        }

        var main = named is null ? TorchrunPort : int.Parse(named, CultureInfo.InvariantCulture);
        var free = new List<int>();
        foreach (var (port, remedy) in new[] { (main, $"export MASTER_PORT={main + 11}"), (PagePort, $"--dashboard {PagePort + 1}") })
        {
            if (Inode(port) is { } inode)
            {
                yield return new Finding(Verdict.Warns, $"ports: {port} is in use by {Owner(inode)}", remedy);
            }
            else
            {
                free.Add(port);
            }
        }

        if (free.Count > 0)
        {
            yield return Finding.Works($"ports: {string.Join(", ", free)} free");
        }
    }

    // A line a socket: number, local address:port in hexadecimal, remote, state, ..., and the inode as tenth word.
    private static string? Inode(int port) => Tables.Where(File.Exists)
        .SelectMany(File.ReadLines)
        .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        .FirstOrDefault(words => words.Length > 9 && words[3] == Listening && words[1].EndsWith($":{port:X4}", StringComparison.Ordinal))?[9];

    private static string Owner(string inode)
    {
        foreach (var process in Directory.EnumerateDirectories("/proc").Where(folder => int.TryParse(Path.GetFileName(folder), CultureInfo.InvariantCulture, out _)))
        {
            try
            {
                if (Directory.EnumerateFiles(Path.Combine(process, "fd")).Any(file => new FileInfo(file).LinkTarget == $"socket:[{inode}]"))
                {
                    return $"pid {Path.GetFileName(process)} ({File.ReadAllText(Path.Combine(process, "comm")).Trim()})";
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                continue; // it ended, or belongs to somebody else
            }
        }

        return "a process of another user";
    }
}
