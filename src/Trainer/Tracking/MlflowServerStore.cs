namespace Moe.Training.Tracking;

/// <summary>Tells a run to an MLflow server.</summary>
/// <param name="client">Of the server; disposed with this.</param>
/// <param name="warn">Told of what the server will never take.</param>
internal sealed class MlflowServerStore(MlflowClient client, Action<string> warn) : ITrackingStore
{
    /// <summary>Tag that a run is found by where the answer to its making was lost.</summary>
    public const string MarkTag = "moe_run";

    private const string Active = "active";

    /// <inheritdoc/>
    public async Task<TrackingState> OpenRunAsync(TrackingState state, Action<TrackingState> note, CancellationToken cancellation)
    {
        if (state.RunId is { } runId)
        {
            return state.ArtifactUri is null ? With(state, await ActiveAsync(runId, cancellation).ConfigureAwait(false)) : state;
        }

        state = state with { ExperimentId = state.ExperimentId ?? await ExperimentAsync(state.Experiment, cancellation).ConfigureAwait(false) };
        note(state);
        if (state.Creating && await client.SearchRunsAsync(state.ExperimentId, $"tags.{MarkTag} = '{state.Mark}'", cancellation).ConfigureAwait(false) is [var found, ..])
        {
            return With(state, found.Info);
        }

        state = state with { Creating = true };
        note(state);
        var tags = new List<MlflowText> { new(MarkTag, state.Mark), new("mlflow.runName", state.RunName) };
        if (state.ParentRunId is { } parent)
        {
            tags.Add(new MlflowText("mlflow.parentRunId", parent));
        }

        return With(state, await client.CreateRunAsync(new MlflowNewRun(state.ExperimentId, state.RunName, state.StartTime, tags), cancellation).ConfigureAwait(false));
    }

    /// <inheritdoc/>
    public async Task<int> LogAsync(MlflowBatch batch, CancellationToken cancellation)
    {
        try
        {
            await client.LogBatchAsync(batch, cancellation).ConfigureAwait(false);
            return 0;
        }
        catch (MlflowException e) when (e.Fault is MlflowFault.Refused or MlflowFault.Missing)
        {
            // Before points are given up one by one: a deleted run refuses them all, and takes them again when it is restored.
            await ActiveAsync(batch.RunId, cancellation).ConfigureAwait(false);
            return await SplitAsync(batch, e, cancellation).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public async Task UploadAsync(TrackingState run, string file, string name, CancellationToken cancellation)
    {
        var artifacts = run.ArtifactUri ?? "";
        if (MlflowClient.IsProxied(artifacts))
        {
            using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 1, FileOptions.SequentialScan);
            await client.UploadAsync(artifacts, name, stream, cancellation).ConfigureAwait(false);
        }
        else if (TrackingTarget.FolderOf(artifacts) is { } folder && SharedRoot(folder) is not null)
        {
            await ArtifactCopy.ToAsync(Path.Combine(folder, name), file, cancellation).ConfigureAwait(false);
        }
        else
        {
            throw new MlflowException(
                MlflowFault.Refused,
                $"the server keeps files at {MlflowLimits.Cut(artifacts, 200)}, where this program cannot write; one started with --serve-artifacts takes them itself");
        }
    }

    /// <inheritdoc/>
    public async Task UpdateAsync(TrackingState run, string status, long? endTime, CancellationToken cancellation)
    {
        try
        {
            await client.UpdateRunAsync(new MlflowRunUpdate(run.RunId!, status, endTime), cancellation).ConfigureAwait(false);
        }
        catch (MlflowException e) when (e.Fault is MlflowFault.Refused or MlflowFault.Missing)
        {
            await ActiveAsync(run.RunId!, cancellation).ConfigureAwait(false);
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => client.Dispose();

    private static TrackingState With(TrackingState state, MlflowRunInfo info) => state with
    {
        RunId = info.RunId,
        ExperimentId = info.ExperimentId ?? state.ExperimentId,
        ArtifactUri = info.ArtifactUri ?? "",
        Creating = false,
    };

    // The folder of a server on this machine, or on a file system that both see; its parent is the experiment's.
    private static string? SharedRoot(string folder)
    {
        var experiment = Path.GetDirectoryName(Path.GetDirectoryName(folder.TrimEnd('/')));
        return experiment is not null && Directory.Exists(experiment) ? experiment : null;
    }

    private async Task<string> ExperimentAsync(string name, CancellationToken cancellation)
    {
        for (var attempt = 0; ; attempt++)
        {
            if (await client.FindExperimentAsync(name, cancellation).ConfigureAwait(false) is { } experiment)
            {
                return experiment.LifecycleStage is null or Active
                    ? experiment.ExperimentId
                    : throw new MlflowException(MlflowFault.Denied, $"the experiment '{name}' is deleted; restore it, or set another tracking.experiment");
            }

            try
            {
                return await client.CreateExperimentAsync(name, cancellation).ConfigureAwait(false);
            }
            catch (MlflowException e) when (e.Fault == MlflowFault.Exists && attempt == 0)
            {
                // Another run has made it in between.
            }
        }
    }

    private async Task<MlflowRunInfo> ActiveAsync(string runId, CancellationToken cancellation)
    {
        try
        {
            var info = await client.GetRunAsync(runId, cancellation).ConfigureAwait(false);
            return info.LifecycleStage is null or Active
                ? info
                : throw new MlflowException(MlflowFault.Denied, $"the MLflow run {runId} is deleted; restore it to have the rest of its rows");
        }
        catch (MlflowException e) when (e.Fault is MlflowFault.Missing or MlflowFault.Refused)
        {
            throw new MlflowException(MlflowFault.Denied, $"there is no MLflow run {runId}: {e.Message}", inner: e);
        }
    }

    // Finds the entries to blame by halves: the others must not be lost with them.
    private async Task<int> SplitAsync(MlflowBatch batch, MlflowException refusal, CancellationToken cancellation)
    {
        if (batch.Count == 1)
        {
            return await InAnotherFormAsync(batch, refusal, cancellation).ConfigureAwait(false);
        }

        var refused = 0;
        foreach (var half in Halves(batch))
        {
            try
            {
                await client.LogBatchAsync(half, cancellation).ConfigureAwait(false);
            }
            catch (MlflowException e) when (e.Fault == MlflowFault.Refused)
            {
                refused += await SplitAsync(half, e, cancellation).ConfigureAwait(false);
            }
        }

        return refused;
    }

    // An old server takes short parameters only; a parameter that another program has set otherwise can still be a tag.
    private async Task<int> InAnotherFormAsync(MlflowBatch batch, MlflowException refusal, CancellationToken cancellation)
    {
        var forms = new List<MlflowBatch>();
        if (batch.Params is [var (key, value)])
        {
            if (value.Length > MlflowLimits.OldParameterLength)
            {
                forms.Add(batch with { Params = [new MlflowText(key, MlflowLimits.Cut(value, MlflowLimits.OldParameterLength))] });
            }

            forms.Add(batch with { Params = [], Tags = [new MlflowText(MlflowLimits.CleanKey("param." + key), MlflowLimits.Cut(value, MlflowLimits.TagLength))] });
        }

        foreach (var form in forms)
        {
            try
            {
                await client.LogBatchAsync(form, cancellation).ConfigureAwait(false);
                return 0;
            }
            catch (MlflowException e) when (e.Fault == MlflowFault.Refused)
            {
                refusal = e;
            }
        }

        warn($"MLflow refuses {Name(batch)}: {refusal.Message}");
        return 1;
    }

    private static string Name(MlflowBatch batch) => batch switch
    {
        { Metrics: [var metric] } => FormattableString.Invariant($"{metric.Key} = {metric.Value} of step {metric.Step}"),
        { Params: [var parameter] } => $"the parameter {parameter.Key}",
        _ => $"the tag {batch.Tags[0].Key}",
    };

    private static IEnumerable<MlflowBatch> Halves(MlflowBatch batch)
    {
        var (metrics, parameters) = (batch.Metrics.Count, batch.Params.Count);
        var half = batch.Count / 2;
        yield return Part(0, half);
        yield return Part(half, batch.Count);

        MlflowBatch Part(int from, int to) => batch with
        {
            Metrics = Slice(batch.Metrics, from, to),
            Params = Slice(batch.Params, from - metrics, to - metrics),
            Tags = Slice(batch.Tags, from - metrics - parameters, to - metrics - parameters),
        };

        static IReadOnlyList<T> Slice<T>(IReadOnlyList<T> items, int from, int to) => [.. items.Take(Math.Max(to, 0)).Skip(Math.Max(from, 0))];
    }
}
