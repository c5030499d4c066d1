namespace Moe.Training;

/// <summary>metrics.jsonl: one JSON object a row, its keys with their units in the name. A row is on the disk's way before the next is written.</summary>
public sealed class MetricsFile : IDisposable
{
    private readonly StepFile _file;

    /// <summary>Opens the file to append to it.</summary>
    /// <param name="path">Made where it is missing.</param>
    /// <param name="lastStep">Rows of later steps are removed: a run that resumes from an older checkpoint goes through them again.</param>
    public MetricsFile(string path, long lastStep) => _file = new StepFile(path, lastStep);

    /// <summary>Appends a row; a value that is no number is written as null, since JSON has none.</summary>
    public void Append(IReadOnlyDictionary<string, double> row) => _file.Append(json =>
    {
        foreach (var (key, value) in row)
        {
            if (!double.IsFinite(value))
            {
                json.WriteNull(key);
            }
            else if (value == Math.Floor(value) && Math.Abs(value) < 1L << 53)
            {
                json.WriteNumber(key, (long)value);
            }
            else
            {
                json.WriteNumber(key, value);
            }
        }
    });

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();
}
