using System.Net.Http.Headers;
using System.Text;

namespace Moe.Training.Tracking;

/// <summary>Who a client says it is. Nothing but the request's header shows a secret: not its text, not an error's message.</summary>
public sealed class MlflowCredentials
{
    private const string Hidden = "***";

    private readonly string[] _secrets;

    private MlflowCredentials(AuthenticationHeaderValue? header, params string[] secrets)
    {
        Header = header;
        _secrets = [.. secrets.Where(secret => secret.Length > 0)];
    }

    /// <summary>Nobody in particular.</summary>
    public static MlflowCredentials None { get; } = new(null);

    /// <summary>The header of each request; null for none.</summary>
    internal AuthenticationHeaderValue? Header { get; }

    /// <summary>Takes user name and password where both are given, else the token, as MLflow's own client does.</summary>
    public static MlflowCredentials Of(string? userName, string? password, string? token)
    {
        if (userName is { Length: > 0 } && password is { Length: > 0 })
        {
            var pair = Convert.ToBase64String(Encoding.UTF8.GetBytes($"{userName}:{password}"));
            return new MlflowCredentials(new AuthenticationHeaderValue("Basic", pair), password, pair);
        }

        return token is { Length: > 0 } ? new MlflowCredentials(new AuthenticationHeaderValue("Bearer", token), token) : None;
    }

    /// <summary>A text, such as a server's answer, without the secrets that it may repeat.</summary>
    public string Scrub(string text) => _secrets.Aggregate(text, (scrubbed, secret) => scrubbed.Replace(secret, Hidden, StringComparison.Ordinal));

    /// <summary><c>Basic</c>, <c>Bearer</c> or <c>none</c>.</summary>
    public override string ToString() => Header?.Scheme ?? TrackingTarget.None;
}
