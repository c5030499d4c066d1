using System.Text.Json;
using Moe.Training.Hosting;

namespace Moe.Training.Reports;

/// <summary>Writes a <see cref="RunSnapshot"/> as the page's script reads it.</summary>
/// <remarks>The writer's default escaping leaves no angle bracket, ampersand or apostrophe: the text can stand within a page.</remarks>
public static class RunSnapshotJson
{
    /// <summary>Writes one object.</summary>
    public static void Write(Utf8JsonWriter json, RunSnapshot run)
    {
        json.WriteStartObject();
        json.WriteString("id", run.Id);
        json.WriteString("cursor", run.Cursor.ToString());
        json.WritePropertyName("record");
        run.Record.WriteTo(json);
        WriteSeries(json, run);
        WriteLoad(json, run);
        WriteDomains(json, run);
        WriteRanks(json, run);
        json.WriteStartArray("events");
        foreach (var row in run.Events)
        {
            row.WriteTo(json);
        }

        json.WriteEndArray();
        if (run.Config is { } config)
        {
            json.WritePropertyName("config");
            config.WriteTo(json);
        }

        if (run.Sample is not null)
        {
            json.WriteString("sample", run.Sample);
        }

        json.WritePropertyName("failures");
        JsonSerializer.Serialize(json, run.Failures.ToArray(), ControlJson.Default.RankFailureArray);
        json.WriteEndObject();
    }

    private static void WriteSeries(Utf8JsonWriter json, RunSnapshot run)
    {
        json.WriteStartObject("series");
        foreach (var (key, series) in run.Series)
        {
            var points = series.Points();
            json.WriteStartObject(key);
            WriteNumbers(json, "s", points.Select(point => (double)point.Step), 0);
            json.WriteStartArray("v");
            foreach (var point in points)
            {
                json.WriteNumberValue(Rounded(point.Value));
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    private static void WriteLoad(Utf8JsonWriter json, RunSnapshot run)
    {
        json.WriteStartObject("load");
        json.WriteNumber("layers", run.Layers);
        json.WriteNumber("experts", run.Experts);
        WriteColumns(json, run.Load, 0);
        json.WriteEndObject();
    }

    private static void WriteDomains(Utf8JsonWriter json, RunSnapshot run)
    {
        json.WriteStartArray("domains");
        foreach (var evaluation in run.Domains)
        {
            json.WriteStartObject();
            json.WriteNumber("step", evaluation.Step);
            json.WriteStartArray("domains");
            for (var i = 0; i < evaluation.Names.Count; i++)
            {
                json.WriteStartObject();
                json.WriteString("name", evaluation.Names[i]);
                if (double.IsFinite(evaluation.Losses[i]))
                {
                    json.WriteNumber("loss", Rounded(evaluation.Losses[i]));
                }

                WriteNumbers(json, "percent", evaluation.Loads[i], 0);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteRanks(Utf8JsonWriter json, RunSnapshot run)
    {
        json.WriteStartObject("ranks");
        foreach (var (key, columns) in run.Ranks)
        {
            json.WriteStartObject(key);
            WriteColumns(json, columns, 3);
            json.WriteEndObject();
        }

        json.WriteEndObject();
    }

    private static void WriteColumns(Utf8JsonWriter json, IReadOnlyList<TableSampler.Column> columns, int digits)
    {
        WriteNumbers(json, "from", columns.Select(column => (double)column.FirstStep), 0);
        WriteNumbers(json, "to", columns.Select(column => (double)column.LastStep), 0);
        WriteNumbers(json, "rows", columns.Select(column => (double)column.Rows), 0);
        json.WriteStartArray("columns");
        foreach (var column in columns)
        {
            json.WriteStartArray();
            foreach (var value in column.Mean)
            {
                WriteNumber(json, value, digits);
            }

            json.WriteEndArray();
        }

        json.WriteEndArray();
    }

    private static void WriteNumbers(Utf8JsonWriter json, string name, IEnumerable<double> values, int digits)
    {
        json.WriteStartArray(name);
        foreach (var value in values)
        {
            WriteNumber(json, value, digits);
        }

        json.WriteEndArray();
    }

    private static void WriteNumber(Utf8JsonWriter json, double value, int digits)
    {
        var rounded = Math.Round(value, digits);
        if (digits == 0)
        {
            // A load that is small is not none: an expert that no token chose has 0 alone.
            json.WriteNumberValue((long)(rounded == 0 && value > 0 ? 1 : rounded));
        }
        else
        {
            json.WriteNumberValue(rounded);
        }
    }

    // Six digits are more than a curve shows.
    private static double Rounded(double value)
    {
        if (value == 0)
        {
            return 0;
        }

        var digits = 6 - (int)Math.Ceiling(Math.Log10(Math.Abs(value)));
        return digits is >= 0 and <= 15 ? Math.Round(value, digits) : value;
    }
}
