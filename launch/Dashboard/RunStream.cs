using System.Text;
using System.Text.Json;
using Moe.Training;
using Moe.Training.Hosting;
using Moe.Training.Reports;

namespace Moe.Launch.Dashboard;

/// <summary>
/// What is new in a run, as server-sent events: each line of its growing files under the file's name, run.json as <c>run</c>, <c>end</c> when it is over, and
/// <c>reset</c> where files were cut, whereupon the page begins anew. An event's id says where to go on after it.
/// </summary>
/// <param name="folder">The run's folder.</param>
/// <param name="open">Opens its files.</param>
/// <param name="from">What the page has already.</param>
internal sealed class RunStream(RunFolder folder, OpenRunFile open, RunCursor from)
{
    // Of each file at a time: a page that comes late gets the others' news too.
    private const int MostLines = 500;

    private readonly long[] _offsets = [.. from.Offsets];
    private string? _record;
    private bool _wasRunning;

    /// <summary>Whether the page must begin anew; nothing more comes then.</summary>
    public bool IsReset { get; private set; }

    /// <summary>What came since the last call.</summary>
    public IReadOnlyList<string> Poll()
    {
        var record = RunSnapshotReader.Record(folder, open);
        if (RunSnapshotReader.AttemptOf(record) != from.Attempt)
        {
            return Reset();
        }

        var events = new List<string>();
        foreach (var (file, path) in RunSnapshotReader.GrowingFiles(folder).Index())
        {
            if (!Read(file, path, events))
            {
                return Reset();
            }
        }

        AddRecord(record, events);
        return events;
    }

    /// <summary>One event in the form of the protocol.</summary>
    public static string Format(string name, string data, string? id) =>
        $"event: {name}\n{(id is null ? "" : $"id: {id}\n")}data: {data.ReplaceLineEndings(" ")}\n\n";

    private IReadOnlyList<string> Reset()
    {
        IsReset = true;
        return [Format("reset", "{}", null)];
    }

    private bool Read(int file, string path, List<string> events)
    {
        using var stream = open(path);
        var offset = _offsets[file];
        if (stream is null || stream.Length < offset)
        {
            return stream is null && offset == 0;
        }

        if (offset > 0)
        {
            stream.Seek(offset - 1, SeekOrigin.Begin);
            if (stream.ReadByte() != '\n')
            {
                return false;
            }
        }

        var lines = new JsonLines(stream);
        for (var count = 0; count < MostLines && lines.Next() is { } line; count++)
        {
            _offsets[file] = offset + lines.Consumed;
            events.Add(Format(RunCursor.Files[file], Encoding.UTF8.GetString(line.Span), new RunCursor(from.Attempt, _offsets).ToString()));
        }

        return true;
    }

    private void AddRecord(JsonElement record, List<string> events)
    {
        var text = JsonSerializer.Serialize(record, RecordJson.Default.JsonElement);
        if (text == _record)
        {
            return;
        }

        _record = text;
        events.Add(Format("run", text, null));
        var isRunning = record.TryGetProperty("status", out var status) && status.ValueKind == JsonValueKind.String
            && status.GetString() is "starting" or "running" or "stopping";
        if (_wasRunning && !isRunning)
        {
            events.Add(Format("end", "{}", null));
        }

        _wasRunning = isRunning;
    }
}

[System.Text.Json.Serialization.JsonSerializable(typeof(JsonElement))]
internal sealed partial class RecordJson : System.Text.Json.Serialization.JsonSerializerContext;
