namespace Moe.Training.Tracking;

/// <summary>What a journal holds of a run's earlier attempts.</summary>
internal sealed class JournalHistory
{
    private readonly HashSet<(string Key, long Step)> _toldAhead = [];

    private JournalHistory(IEnumerable<JournalLine> lines, long lastStep, long sent)
    {
        foreach (var line in lines)
        {
            Length = line.End;
            switch (line.Entry)
            {
                case MetricsEntry row:
                    LastTime = row.Time;
                    if (row.Step > lastStep && line.Start >= sent)
                    {
                        HasStaleRows = true;
                    }
                    else if (row.Step > lastStep)
                    {
                        _toldAhead.UnionWith(row.Values.Keys.Select(key => (key, row.Step)));
                    }

                    break;
                case MachineEntry sample:
                    LastTime = sample.Time;
                    Samples = Math.Max(Samples, sample.Step + 1);
                    break;
                case ParametersEntry parameters:
                    foreach (var (key, value) in parameters.Values)
                    {
                        Parameters[key] = value;
                    }

                    break;
                case ArtifactEntry artifact:
                    LastTime = artifact.Time;
                    Artifacts[artifact.Path] = artifact.Time;
                    break;
                case StatusEntry status:
                    LastTime = status.Time;
                    LastStatus = status.Status;
                    Attempts += status.Status == TrackedStatus.Running ? 1 : 0;
                    break;
                default:
                    break; // tags replace themselves
            }
        }
    }

    /// <summary>Bytes of the whole lines.</summary>
    public long Length { get; }

    /// <summary>Time of the last entry that has one; 0 where none has.</summary>
    public long LastTime { get; }

    /// <summary>The status that the run was last said to have; null where none was.</summary>
    public string? LastStatus { get; }

    /// <summary>How often the run was started.</summary>
    public int Attempts { get; }

    /// <summary>Samples of the machine's load.</summary>
    public long Samples { get; }

    /// <summary>All parameters by their keys.</summary>
    public Dictionary<string, string> Parameters { get; } = [];

    /// <summary>When each file was last to be stored.</summary>
    public Dictionary<string, long> Artifacts { get; } = [];

    /// <summary>Whether there are rows beyond the checkpoint that the server surely lacks.</summary>
    public bool HasStaleRows { get; }

    /// <param name="path">The journal; it may be missing.</param>
    /// <param name="lastStep">The step that training goes on from.</param>
    /// <param name="sent">Bytes that the server has or may have.</param>
    public static JournalHistory Read(string path, long lastStep = long.MaxValue, long sent = long.MaxValue) => new(JournalReader.All(path), lastStep, sent);

    /// <summary>Whether an earlier attempt has told, or may have told, this point already: it trained on beyond the checkpoint.</summary>
    public bool HasTold(string key, long step) => _toldAhead.Count > 0 && _toldAhead.Contains((key, step));
}
