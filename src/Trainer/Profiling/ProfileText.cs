using System.Globalization;

namespace Moe.Training.Profiling;

/// <summary>Lays a <see cref="ProfileTable"/> out for people.</summary>
internal static class ProfileText
{
    private const string Gap = "  ";

    public static IReadOnlyList<string> Of(ProfileTable table)
    {
        var hasDevice = table.Step.DeviceMs is not null;
        var steps = new StepRange(table.FirstStep, table.LastStep);
        List<string> lines =
        [
            Invariant($"where a step goes: step{(steps.Count == 1 ? "" : "s")} {steps}, {table.Ranks} rank{(table.Ranks == 1 ? "" : "s")}; ms a step, each part without those inside it"),
        ];
        string[] head = ["part", "rank 0", "share", "calls", "waiting", "slowest", "rank", .. hasDevice ? (string[])["device", "slowest"] : []];
        List<string[]> rows = [head, .. table.Parts.Select(part => Row(part, hasDevice)), Row(table.Step, hasDevice)];
        lines.AddRange(Aligned(rows));
        if (table.Beside.Count > 0)
        {
            lines.Add("between the steps, ms each");
            lines.AddRange(Aligned([.. table.Beside.Select(part => (string[])[part.Part, Invariant($"{part.Ms:F2}")])]));
        }

        if (table.TraceFile is not null)
        {
            lines.Add($"trace: {table.TraceFile} (https://ui.perfetto.dev, chrome://tracing)");
        }

        return lines;
    }

    private static string[] Row(ProfilePart part, bool hasDevice) =>
    [
        part.Part,
        Invariant($"{part.Ms:F2}"),
        Invariant($"{part.SharePct:F1} %"),
        Invariant($"{part.Calls:0.#}"),
        part.WaitingMs > 0 ? Invariant($"{part.WaitingMs:F2}") : "",
        Invariant($"{part.SlowestMs:F2}"),
        Invariant($"{part.SlowestRank}"),
        .. hasDevice ? (string[])[Invariant($"{part.DeviceMs:F2}"), Invariant($"{part.SlowestDeviceMs:F2}")] : [],
    ];

    private static IEnumerable<string> Aligned(List<string[]> rows)
    {
        var widths = Enumerable.Range(0, rows[0].Length).Select(column => rows.Max(row => row[column].Length)).ToArray();
        return rows.Select(row => string.Join(Gap, row.Select((cell, column) => column == 0 ? cell.PadRight(widths[0]) : cell.PadLeft(widths[column]))).TrimEnd());
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
