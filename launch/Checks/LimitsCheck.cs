using System.Globalization;

namespace Moe.Launch.Checks;

/// <summary>What the shell allows a process: open files, processes, memory.</summary>
internal sealed class LimitsCheck : Check
{
    private static readonly (string Name, string Label, long Least, string Remedy)[] Limits =
    [
        ("Max open files", "open files", 1024, "ulimit -n 65536"), // a rank holds a connection to each other, and its data files
        ("Max processes", "processes", 1024, "ulimit -u 65536"),
        ("Max address space", "address space", 64L << 30, "ulimit -v unlimited"), // the runtime reserves far more than it uses
    ];

    public override string Name => "limits";

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        var lines = File.ReadAllLines("/proc/self/limits");
        var enough = new List<string>();
        foreach (var (name, label, least, remedy) in Limits)
        {
            var soft = lines.FirstOrDefault(line => line.StartsWith(name, StringComparison.Ordinal))?[name.Length..].Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)[0];
            if (soft is not null && long.TryParse(soft, NumberStyles.None, CultureInfo.InvariantCulture, out var limit) && limit < least)
            {
                yield return new Finding(Verdict.Warns, $"limits: {label} {limit}", remedy);
            }
            else
            {
                enough.Add($"{label} {soft ?? "unknown"}");
            }
        }

        if (enough.Count > 0)
        {
            yield return Finding.Works($"limits: {string.Join(", ", enough)}");
        }
    }
}
