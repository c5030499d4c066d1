using System.Globalization;
using System.Text;
using Moe.Training.Hosting;

namespace Moe.Tests.Reports;

/// <summary>A run folder as rank 0 and launcher write it, of made-up numbers, for what only reads run folders.</summary>
internal sealed class DrawnRun
{
    public DrawnRun(string path, string id = "a-run", string status = "running", int ranks = 4)
    {
        Folder = new RunFolder(path);
        Directory.CreateDirectory(Folder.LogsFolder);
        Ranks = ranks;
        WriteRecord(id, status);
        File.WriteAllText(Folder.ConfigOriginFile, """{"train.steps":{"value":"100","origin":"--set"},"run.name":{"value":"drawn","origin":"my.yaml:3"}}""");
        for (var rank = 0; rank < ranks; rank++)
        {
            File.WriteAllText(Folder.LogFile(rank), $"rank {rank} says hello\n");
        }
    }

    public RunFolder Folder { get; }

    public int Ranks { get; }

    public void WriteRecord(string id, string status, int attempt = 1) => File.WriteAllText(Folder.RunFile, $$$"""
        {"id":"{{{id}}}","status":"{{{status}}}","mode":"train","backend":"gloo","world_size":{{{Ranks}}},"host":"here","start":"2026-11-24T10:00:00Z","attempt":{{{attempt}}},
        "mesh":"replica 1 x expert {{{Ranks}}}","parameters":{"total":1000,"active":500}}
        """);

    /// <summary>Appends what a logged step writes.</summary>
    public void AddStep(long step, int layers = 2, int experts = 4)
    {
        Append(Folder.MetricsFile, string.Create(CultureInfo.InvariantCulture,
            $$$"""{"step":{{{step}}},"unix_ms":{{{1_764_000_000_000 + (step * 100)}}},"train/loss":{{{5.0 / step}}},"train/lr":0.001,"train/tokens":{{{step * 512}}},"perf/tokens_per_s":84120,"perf/step_ms":20.5,"moe/dead_experts":1}"""));
        var layer = $"[0,{string.Join(',', Enumerable.Range(1, experts - 1).Select(expert => expert * 10))}]";
        Append(Folder.ExpertsFile, $$$"""{"step":{{{step}}},"tokens":[{{{string.Join(',', Enumerable.Repeat(layer, layers))}}}]}""");
        var times = string.Join(',', Enumerable.Range(0, Ranks).Select(rank => 20 + rank));
        Append(Folder.RanksFile, $$$"""{"step":{{{step}}},"perf/step_ms":[{{{times}}}],"perf/busy_ms":[{{{times}}}],"mem/peak_resident_gib":[{{{times}}}]}""");
    }

    /// <summary>Appends what an evaluation writes.</summary>
    public void AddEvaluation(long step)
    {
        Append(Folder.MetricsFile, $$$"""{"step":{{{step}}},"eval/loss":1.5}""");
        Append(Folder.DomainsFile, $$$"""{"step":{{{step}}},"domains":[{"name":"verse","loss":1.25,"evaluated":10,"tokens":[[5,5,10,0],[5,5,5,5]]},{"name":"code","loss":null,"evaluated":10,"tokens":[[0,10,5,5],[5,5,5,5]]}]}""");
    }

    public void AddEvent(string kind, string text) =>
        Append(Folder.EventsFile, $$$"""{"time":"2026-11-24T10:00:05Z","kind":"{{{kind}}}","step":1,"text":{{{System.Text.Json.JsonSerializer.Serialize(text)}}}}""");

    private static void Append(string path, string line) => File.AppendAllText(path, line + "\n", new UTF8Encoding(false));
}
