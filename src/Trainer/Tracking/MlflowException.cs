namespace Moe.Training.Tracking;

/// <summary>What a failed request to MLflow means for the next.</summary>
public enum MlflowFault
{
    /// <summary>The server is away, busy or broken: the same request may succeed later.</summary>
    Unavailable,

    /// <summary>The server will never take this request; others it may.</summary>
    Refused,

    /// <summary>What the request names is not there.</summary>
    Missing,

    /// <summary>What the request would make is there already.</summary>
    Exists,

    /// <summary>Nothing of this run will be taken until a user changes something: credentials, the URI, a deleted run.</summary>
    Denied,
}

/// <summary>A request to MLflow that failed. The message holds no secret.</summary>
public sealed class MlflowException : Exception
{
    /// <param name="fault">What it means for the next request.</param>
    /// <param name="message">What failed, with the server's words.</param>
    /// <param name="retryAfter">The pause that the server asks for.</param>
    /// <param name="inner">What the network said.</param>
    public MlflowException(MlflowFault fault, string message, TimeSpan? retryAfter = null, Exception? inner = null)
        : base(message, inner)
    {
        Fault = fault;
        RetryAfter = retryAfter;
    }

    /// <summary>What it means for the next request.</summary>
    public MlflowFault Fault { get; }

    /// <summary>The pause that the server asks for; null where it does not.</summary>
    public TimeSpan? RetryAfter { get; }
}
