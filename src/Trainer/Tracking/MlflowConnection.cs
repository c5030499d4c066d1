namespace Moe.Training.Tracking;

/// <summary>How an MLflow server is reached.</summary>
public sealed record MlflowConnection
{
    /// <summary>Who the client says it is.</summary>
    public MlflowCredentials Credentials { get; init; } = MlflowCredentials.None;

    /// <summary>Whether a server's certificate is taken unseen.</summary>
    public bool InsecureTls { get; init; }

    /// <summary>PEM file of the authorities that a server's certificate must come from; null for those of the machine.</summary>
    public string? ServerCertificateFile { get; init; }

    /// <summary>PEM file of certificate and key that the client shows; null for none.</summary>
    public string? ClientCertificateFile { get; init; }

    /// <summary>Workspace of a server that has several; null for its default.</summary>
    public string? Workspace { get; init; }

    /// <summary>Patience with one request, an upload's bytes apart.</summary>
    public TimeSpan RequestTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Pauses after a failed request.</summary>
    public RetryPolicy Retry { get; init; } = new();
}

/// <summary>Pauses between attempts that grow twofold.</summary>
public sealed record RetryPolicy
{
    /// <summary>After the first failure.</summary>
    public TimeSpan First { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>No pause is longer, unless the server asks for it.</summary>
    public TimeSpan Longest { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>What a server may ask for.</summary>
    public TimeSpan LongestAsked { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>Share of a pause that is drawn at random and added, in [0, 1]: many runs shall not come back together.</summary>
    public double Jitter { get; init; } = 0.25;

    /// <summary>Whether a Retry-After header counts.</summary>
    public bool HeedsRetryAfter { get; init; } = true;

    /// <summary>The pause before the next attempt.</summary>
    /// <param name="failures">Failed attempts in a row, at least 1.</param>
    /// <param name="asked">What the server asked for; null where it did not.</param>
    /// <param name="draw">A random number in [0, 1).</param>
    public TimeSpan Pause(int failures, TimeSpan? asked, double draw)
    {
        if (HeedsRetryAfter && asked is { } wish)
        {
            return wish < LongestAsked ? wish : LongestAsked;
        }

        var pause = First * Math.Pow(2, Math.Min(failures - 1, 30));
        return (pause < Longest ? pause : Longest) * (1 + (Jitter * draw));
    }
}
