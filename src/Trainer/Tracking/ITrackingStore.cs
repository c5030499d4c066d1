namespace Moe.Training.Tracking;

/// <summary>Where the runs are told to. Every call may be repeated: what is there already stays as it is.</summary>
internal interface ITrackingStore : IDisposable
{
    /// <summary>Finds the run that a state names, or makes it.</summary>
    /// <param name="state">Where this run stands.</param>
    /// <param name="note">Keeps a state: what is said by it must outlive this process before the call goes on.</param>
    /// <param name="cancellation">Gives up.</param>
    /// <returns>The state with the ids of experiment and run.</returns>
    /// <exception cref="MlflowException">It could not be found or made.</exception>
    public Task<TrackingState> OpenRunAsync(TrackingState state, Action<TrackingState> note, CancellationToken cancellation);

    /// <summary>Tells points, parameters and tags.</summary>
    /// <returns>How many of them are refused for good.</returns>
    /// <exception cref="MlflowException">They could not be told now.</exception>
    public Task<int> LogAsync(MlflowBatch batch, CancellationToken cancellation);

    /// <summary>Stores a file.</summary>
    /// <param name="run">Of an open run.</param>
    /// <param name="file">Path of the file.</param>
    /// <param name="name">Path below the run's artifacts.</param>
    /// <param name="cancellation">Gives up.</param>
    /// <exception cref="MlflowException">It could not be stored; where the fault is <see cref="MlflowFault.Refused"/>, never.</exception>
    public Task UploadAsync(TrackingState run, string file, string name, CancellationToken cancellation);

    /// <summary>Says where the run stands.</summary>
    /// <param name="run">Of an open run.</param>
    /// <param name="status">One of <see cref="TrackedStatus"/>.</param>
    /// <param name="endTime">Milliseconds since 1970, UTC; null while it has no end.</param>
    /// <param name="cancellation">Gives up.</param>
    /// <exception cref="MlflowException">It could not be told.</exception>
    public Task UpdateAsync(TrackingState run, string status, long? endTime, CancellationToken cancellation);
}
