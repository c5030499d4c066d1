using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>
/// Tells what stands in a run's journal and MLflow lacks, piece by piece. Before a piece is sent, mlflow.json says how far it goes; once it
/// is there, that it is. A process that ends in between leaves a piece that is sent again, which changes nothing.
/// </summary>
/// <remarks>Not thread-safe, and alone with mlflow.json: whoever sends holds the <see cref="SenderLock"/>.</remarks>
internal sealed class JournalSender
{
    private readonly RunFolder _folder;
    private readonly ITrackingStore _store;
    private readonly Action<string> _warn;
    private readonly Action _sync;
    private bool _isOpen;

    /// <param name="folder">Of the run.</param>
    /// <param name="state">Where it stands.</param>
    /// <param name="store">Takes what is told; stays the caller's.</param>
    /// <param name="warn">Told of what the store will never take.</param>
    /// <param name="sync">Waits until the journal's lines are on the disk.</param>
    public JournalSender(RunFolder folder, TrackingState state, ITrackingStore store, Action<string> warn, Action sync)
    {
        (_folder, State, _store, _warn, _sync) = (folder, state, store, warn, sync);
    }

    /// <summary>As mlflow.json has it.</summary>
    public TrackingState State { get; private set; }

    /// <summary>Bytes of the journal that MLflow lacks.</summary>
    public long Pending => File.Exists(_folder.TrackingFile) ? Math.Max(0, new FileInfo(_folder.TrackingFile).Length - State.Synced) : 0;

    /// <summary>Sends all that stands in the journal.</summary>
    /// <returns>Lines that were sent.</returns>
    /// <exception cref="MlflowException">The rest could not be sent now.</exception>
    /// <exception cref="IOException">mlflow.json or the journal cannot be written or read.</exception>
    public async Task<int> SendAsync(CancellationToken cancellation)
    {
        if (!_isOpen)
        {
            Note(await _store.OpenRunAsync(State, Note, cancellation).ConfigureAwait(false));
            _isOpen = true;
        }

        var sent = 0;
        while (JournalReader.Some(_folder.TrackingFile, State.Synced) is { Count: > 0 } lines)
        {
            // A journal that a power cut makes shorter than mlflow.json says would swallow the lines that follow.
            _sync();
            Note(State with { Sending = lines[^1].End });
            await SendAsync(lines, cancellation).ConfigureAwait(false);
            sent += lines.Count;
        }

        return sent;
    }

    private void Note(TrackingState state)
    {
        if (state != State)
        {
            state.Write(_folder.TrackingStateFile);
            State = state;
        }
    }

    private async Task SendAsync(IReadOnlyList<JournalLine> lines, CancellationToken cancellation)
    {
        var batch = new BatchBuilder(State.RunId!);
        long refused = 0;
        foreach (var line in lines)
        {
            switch (line.Entry)
            {
                case MetricsEntry row:
                    await AddAsync(row.Values, (key, value) => batch.TryAdd(new MlflowMetric(MlflowLimits.MetricKey(key), value, row.Time, row.Step))).ConfigureAwait(false);
                    break;
                case MachineEntry sample:
                    await AddAsync(sample.Values, (key, value) => batch.TryAdd(new MlflowMetric(MlflowLimits.CleanKey(key), value, sample.Time, sample.Step))).ConfigureAwait(false);
                    break;
                case ParametersEntry parameters:
                    await AddAsync(parameters.Values, batch.TryAddParameter).ConfigureAwait(false);
                    break;
                case TagsEntry tags:
                    await AddAsync(tags.Values, batch.TryAddTag).ConfigureAwait(false);
                    break;
                case ArtifactEntry artifact:
                    await FlushAsync().ConfigureAwait(false);
                    refused += await UploadAsync(artifact.Path, cancellation).ConfigureAwait(false);
                    Done(line.End); // what follows may fail, and a checkpoint is long
                    break;
                case StatusEntry status:
                    await FlushAsync().ConfigureAwait(false);
                    await _store.UpdateAsync(State, status.Status, TrackedStatus.HasEnded(status.Status) ? status.Time : null, cancellation).ConfigureAwait(false);
                    Done(line.End);
                    break;
                default:
                    refused++;
                    _warn($"{Path.GetFileName(_folder.TrackingFile)} is damaged at byte {line.Start}: a line of {line.End - line.Start} bytes is left out");
                    break;
            }
        }

        await FlushAsync().ConfigureAwait(false);
        Done(lines[^1].End);

        void Done(long end)
        {
            Note(State with { Synced = end, Refused = State.Refused + refused });
            refused = 0;
        }

        async Task AddAsync<T>(Dictionary<string, T> values, Func<string, T, bool> tryAdd)
        {
            foreach (var (key, value) in values)
            {
                if (!tryAdd(key, value))
                {
                    await FlushAsync().ConfigureAwait(false);
                    tryAdd(key, value);
                }
            }
        }

        async Task FlushAsync()
        {
            if (!batch.IsEmpty)
            {
                refused += await _store.LogAsync(batch.Take(), cancellation).ConfigureAwait(false);
            }
        }
    }

    private async Task<int> UploadAsync(string path, CancellationToken cancellation)
    {
        var full = Path.Combine(_folder.Path, path);
        var refused = 0;
        try
        {
            foreach (var file in Directory.Exists(full) ? Directory.EnumerateFiles(full, "*", SearchOption.AllDirectories).Order().ToList() : [full])
            {
                await _store.UploadAsync(State, file, Path.GetRelativePath(_folder.Path, file), cancellation).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            refused++;
            _warn($"{path} is gone before MLflow could have it");
        }
        catch (MlflowException e) when (e.Fault is MlflowFault.Refused or MlflowFault.Missing)
        {
            refused++;
            _warn($"{path} is not stored with the MLflow run: {e.Message}");
        }

        return refused;
    }
}
