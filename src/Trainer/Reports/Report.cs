using System.Net;
using System.Text;
using System.Text.Json;
using Moe.Training.Hosting;

namespace Moe.Training.Reports;

/// <summary>One page that shows a run, or several beside each other, and needs nothing else: style, script and numbers are within it.</summary>
public static class Report
{
    /// <summary>Runs that one page compares at most.</summary>
    public const int MostRuns = 6;

    /// <summary>Writes a report aside and renames it, so that a reader always finds a whole one.</summary>
    /// <param name="runs">Folders of 1 to <see cref="MostRuns"/> runs; the first is shown with all it has, the others where there are curves to compare.</param>
    /// <param name="path">The file.</param>
    /// <param name="status">Of the first run, where it is known before run.json says it; null for what stands there.</param>
    /// <exception cref="IOException">A file cannot be read, or the report not written.</exception>
    /// <exception cref="UnauthorizedAccessException">The same.</exception>
    public static void Write(IReadOnlyList<RunFolder> runs, string path, string? status = null)
    {
        ArgumentOutOfRangeException.ThrowIfZero(runs.Count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(runs.Count, MostRuns);
        var snapshots = runs.Select(folder => new RunSnapshotReader(folder, RunFiles.Open).Read()).ToList();
        if (status is not null)
        {
            snapshots[0] = snapshots[0] with { Record = WithStatus(snapshots[0].Record, status) };
        }

        OutputFile.Write(path, Encoding.UTF8.GetBytes(Page(snapshots)));
    }

    /// <summary>Writes a run's report.html when the run ends. What hinders it is told, and no more: the run is not to fail over its report.</summary>
    /// <param name="folder">The run's folder.</param>
    /// <param name="status">How it ended, where run.json does not say it yet; null for what stands there.</param>
    /// <param name="warn">Told what hindered it.</param>
    public static void WriteAtEnd(RunFolder folder, string? status, Action<string> warn)
    {
        try
        {
            Write([folder], folder.ReportFile, status);
        }
#pragma warning disable CA1031 // Whatever it is: the training that the report is about has ended well, or has a cause of its own to tell.
        catch (Exception e)
#pragma warning restore CA1031
        {
            warn($"the report could not be written: {e.Message}");
        }
    }

    /// <summary>The page as text.</summary>
    public static string Page(IReadOnlyList<RunSnapshot> runs)
    {
        var policy = $"default-src 'none'; script-src {PageParts.Hash(PageParts.Script)}; style-src {PageParts.Hash(PageParts.Style)}; img-src data:; base-uri 'none'; form-action 'none'";
        return $"""
            <!DOCTYPE html>
            <html lang="en" data-view="report">
            <head>
            <meta charset="utf-8">
            <meta http-equiv="Content-Security-Policy" content="{policy}">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <link rel="icon" href="data:,">
            <title>{WebUtility.HtmlEncode(string.Join(", ", runs.Select(run => run.Id)))}</title>
            <style>{PageParts.Style}</style>
            </head>
            <body>
            <noscript><p>This page draws its numbers with a script, which is switched off here. The numbers are in metrics.jsonl of the run folder.</p></noscript>
            <main id="page"></main>
            <script type="application/json" id="data">{Data(runs)}</script>
            <script>{PageParts.Script}</script>
            </body>
            </html>

            """;
    }

    private static string Data(IReadOnlyList<RunSnapshot> runs)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartArray();
            foreach (var run in runs)
            {
                RunSnapshotJson.Write(json, run);
            }

            json.WriteEndArray();
        }

        return Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length);
    }

    private static JsonElement WithStatus(JsonElement record, string status)
    {
        var changed = System.Text.Json.Nodes.JsonObject.Create(record)!;
        changed["status"] = status;
        return JsonSerializer.SerializeToElement(changed, JsonNodeContext.Default.JsonObject);
    }
}

[System.Text.Json.Serialization.JsonSerializable(typeof(System.Text.Json.Nodes.JsonObject))]
internal sealed partial class JsonNodeContext : System.Text.Json.Serialization.JsonSerializerContext;
