namespace Moe.Training.Tracking;

/// <summary>Gathers points, parameters and tags into batches that a server takes.</summary>
/// <param name="runId">Of the run.</param>
internal sealed class BatchBuilder(string runId)
{
    // Quotes, names, timestamp and step of a point; a letter that JSON escapes takes six.
    private const int BytesOfPoint = 120;
    private const int BytesOfText = 40;
    private const int BytesOfLetter = 6;

    private readonly List<MlflowMetric> _metrics = [];
    private readonly Dictionary<string, string> _parameters = [];
    private readonly Dictionary<string, string> _tags = [];
    private int _bytes = 200 + runId.Length;

    public bool IsEmpty => Count == 0;

    private int Count => _metrics.Count + _parameters.Count + _tags.Count;

    /// <summary>Adds a point; false where the batch is full.</summary>
    public bool TryAdd(MlflowMetric metric)
    {
        if (_metrics.Count == MlflowLimits.MetricsOfBatch || !Fits(BytesOfPoint + metric.Key.Length))
        {
            return false;
        }

        _metrics.Add(metric);
        return true;
    }

    /// <summary>Adds a parameter; false where the batch is full.</summary>
    public bool TryAddParameter(string key, string value) =>
        TryAdd(_parameters, MlflowLimits.ParametersOfBatch, MlflowLimits.CleanKey(key), MlflowLimits.Cut(value, MlflowLimits.ParameterLength));

    /// <summary>Adds a tag; false where the batch is full.</summary>
    public bool TryAddTag(string key, string value) =>
        TryAdd(_tags, MlflowLimits.TagsOfBatch, MlflowLimits.CleanKey(key), MlflowLimits.Cut(value, MlflowLimits.TagLength));

    /// <summary>The batch; the builder begins anew.</summary>
    public MlflowBatch Take()
    {
        var batch = new MlflowBatch(runId, [.. _metrics], Texts(_parameters), Texts(_tags));
        _metrics.Clear();
        _parameters.Clear();
        _tags.Clear();
        _bytes = 200 + runId.Length;
        return batch;
    }

    private static MlflowText[] Texts(Dictionary<string, string> texts) => [.. texts.Select(text => new MlflowText(text.Key, text.Value))];

    private bool TryAdd(Dictionary<string, string> texts, int most, string key, string value)
    {
        if (!texts.ContainsKey(key) && (texts.Count == most || !Fits(BytesOfText + (BytesOfLetter * (key.Length + value.Length)))))
        {
            return false;
        }

        texts[key] = value;
        return true;
    }

    private bool Fits(int bytes)
    {
        if (Count == MlflowLimits.EntitiesOfBatch || (_bytes + bytes > MlflowLimits.BytesOfBatch && Count > 0))
        {
            return false;
        }

        _bytes += bytes;
        return true;
    }
}
