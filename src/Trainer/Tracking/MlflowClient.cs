using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Moe.Training.Tracking;

/// <summary>MLflow's REST interface, one request a call. It makes no second attempt: that is its caller's business, who knows what a repeat does.</summary>
/// <remarks>
/// The calls and limits are those of https://mlflow.org/docs/latest/api_reference/rest-api.html. A server's answers cannot be trusted to be
/// JSON: proxies and failures answer in HTML.
/// </remarks>
internal sealed class MlflowClient : IDisposable
{
    private const string Api = "/api/2.0/mlflow/";
    private const string ArtifactApi = "/api/2.0/mlflow-artifacts/artifacts/";
    private const string ArtifactScheme = "mlflow-artifacts:";

    // What a server without an artifact store says, as 503 though no later request will fare better.
    private const string NoArtifacts = "--no-serve-artifacts";

    // An upload slower than this has hung.
    private const double LeastBytesPerSecond = 64 * 1024;

    private const int MessageLength = 300;

    private readonly HttpClient _http;
    private readonly MlflowConnection _connection;
    private readonly string _uri;

    /// <param name="uri">Of the server, without credentials and a slash at its end.</param>
    /// <param name="connection">How to reach it.</param>
    /// <exception cref="MlflowException">A certificate file cannot be read.</exception>
    public MlflowClient(string uri, MlflowConnection connection)
    {
        _uri = uri;
        _connection = connection;
        _http = new HttpClient(MlflowTls.Handler(connection)) { Timeout = Timeout.InfiniteTimeSpan };
        _http.DefaultRequestHeaders.Authorization = connection.Credentials.Header;
        _http.DefaultRequestHeaders.UserAgent.ParseAdd("Moe.NET");
        if (connection.Workspace is { } workspace)
        {
            _http.DefaultRequestHeaders.TryAddWithoutValidation("X-MLFLOW-WORKSPACE", workspace);
        }
    }

    /// <summary>The experiment of a name; null where there is none.</summary>
    public async Task<MlflowExperiment?> FindExperimentAsync(string name, CancellationToken cancellation)
    {
        try
        {
            var query = "experiments/get-by-name?experiment_name=" + Uri.EscapeDataString(name);
            return (await GetAsync(query, MlflowJson.Default.MlflowExperimentReply, cancellation).ConfigureAwait(false)).Experiment;
        }
        catch (MlflowException e) when (e.Fault == MlflowFault.Missing)
        {
            return null;
        }
    }

    public async Task<string> CreateExperimentAsync(string name, CancellationToken cancellation) =>
        (await PostAsync("experiments/create", new MlflowNewExperiment(name), MlflowJson.Default.MlflowNewExperiment, MlflowJson.Default.MlflowExperiment, cancellation)
            .ConfigureAwait(false)).ExperimentId;

    public async Task<MlflowRunInfo> GetRunAsync(string runId, CancellationToken cancellation) =>
        Known(await GetAsync("runs/get?run_id=" + Uri.EscapeDataString(runId), MlflowJson.Default.MlflowRunReply, cancellation).ConfigureAwait(false));

    /// <summary>The runs of an experiment that a filter lets through, at most two.</summary>
    public async Task<IReadOnlyList<MlflowRun>> SearchRunsAsync(string experimentId, string filter, CancellationToken cancellation) =>
        (await PostAsync("runs/search", new MlflowSearch([experimentId], filter, 2), MlflowJson.Default.MlflowSearch, MlflowJson.Default.MlflowRunsReply, cancellation)
            .ConfigureAwait(false)).Runs ?? [];

    public async Task<MlflowRunInfo> CreateRunAsync(MlflowNewRun run, CancellationToken cancellation) =>
        Known(await PostAsync("runs/create", run, MlflowJson.Default.MlflowNewRun, MlflowJson.Default.MlflowRunReply, cancellation).ConfigureAwait(false));

    public Task UpdateRunAsync(MlflowRunUpdate update, CancellationToken cancellation) =>
        PostAsync("runs/update", update, MlflowJson.Default.MlflowRunUpdate, MlflowJson.Default.MlflowRunReply, cancellation);

    public Task LogBatchAsync(MlflowBatch batch, CancellationToken cancellation) =>
        PostAsync("runs/log-batch", batch, MlflowJson.Default.MlflowBatch, MlflowJson.Default.MlflowError, cancellation);

    /// <summary>Whether a run's files go through the server.</summary>
    public static bool IsProxied(string artifactUri) => artifactUri.StartsWith(ArtifactScheme, StringComparison.Ordinal);

    /// <summary>Sends a file through the server, as a stream.</summary>
    /// <param name="artifactUri">Of the run, see <see cref="IsProxied"/>.</param>
    /// <param name="path">Below the run's artifacts.</param>
    /// <param name="file">Its content, from where it stands.</param>
    /// <param name="cancellation">Gives up.</param>
    public async Task UploadAsync(string artifactUri, string path, FileStream file, CancellationToken cancellation)
    {
        var target = artifactUri[ArtifactScheme.Length..];
        if (target.StartsWith("//", StringComparison.Ordinal))
        {
            // With a host: only ours gets what is meant for ours.
            var end = target.IndexOf('/', 2) is var slash and >= 0 ? slash : target.Length;
            var host = target[2..end];
            target = host.Length == 0 || host == new Uri(_uri).Authority
                ? target[end..]
                : throw new MlflowException(MlflowFault.Refused, $"its files would go through another server, {host}");
        }

        var segments = (target.Trim('/') + "/" + path).Split('/').Select(Uri.EscapeDataString);
        using var request = new HttpRequestMessage(HttpMethod.Put, _uri + ArtifactApi + string.Join('/', segments)) { Content = new StreamContent(file, 1 << 20) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/octet-stream");
        var patience = _connection.RequestTimeout + TimeSpan.FromSeconds(file.Length / LeastBytesPerSecond);
        Parse(await SendAsync(request, patience, cancellation).ConfigureAwait(false), MlflowJson.Default.MlflowError);
    }

    /// <inheritdoc/>
    public void Dispose() => _http.Dispose();

    private static MlflowRunInfo Known(MlflowRunReply reply) =>
        reply.Run?.Info ?? throw new MlflowException(MlflowFault.Unavailable, "the answer names no run");

    private async Task<TReply> GetAsync<TReply>(string query, JsonTypeInfo<TReply> reply, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, _uri + Api + query);
        return Parse(await SendAsync(request, _connection.RequestTimeout, cancellation).ConfigureAwait(false), reply);
    }

    private async Task<TReply> PostAsync<TBody, TReply>(string call, TBody body, JsonTypeInfo<TBody> bodyType, JsonTypeInfo<TReply> reply, CancellationToken cancellation)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, _uri + Api + call)
        {
            Content = new ByteArrayContent(JsonSerializer.SerializeToUtf8Bytes(body, bodyType)),
        };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        return Parse(await SendAsync(request, _connection.RequestTimeout, cancellation).ConfigureAwait(false), reply);
    }

    // A page of a proxy that wants a login comes with 200 as well; nothing was stored then.
    private TReply Parse<TReply>(byte[] body, JsonTypeInfo<TReply> type)
    {
        try
        {
            return JsonSerializer.Deserialize(body, type) ?? throw new JsonException();
        }
        catch (JsonException e)
        {
            throw new MlflowException(MlflowFault.Unavailable, $"{_uri} answered with something else than MLflow's JSON", inner: e);
        }
    }

    private async Task<byte[]> SendAsync(HttpRequestMessage request, TimeSpan patience, CancellationToken cancellation)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        timeout.CancelAfter(patience);
        try
        {
            using var response = await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, timeout.Token).ConfigureAwait(false);
            var body = await response.Content.ReadAsByteArrayAsync(timeout.Token).ConfigureAwait(false);
            return response.IsSuccessStatusCode ? body : throw Failure(response, body);
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw new MlflowException(MlflowFault.Unavailable, FormattableString.Invariant($"{_uri} did not answer within {patience.TotalSeconds:G3} s"), inner: e);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            var why = e.InnerException is { } inner && !e.Message.Contains(inner.Message, StringComparison.Ordinal) ? $"{e.Message} ({inner.Message})" : e.Message;
            throw new MlflowException(MlflowFault.Unavailable, $"{_uri} cannot be reached: {_connection.Credentials.Scrub(why)}", inner: e);
        }
    }

    private MlflowException Failure(HttpResponseMessage response, byte[] body)
    {
        var (code, words) = Words(body);
        var status = (int)response.StatusCode;
        var fault = response.StatusCode switch
        {
            HttpStatusCode.ServiceUnavailable when words.Contains(NoArtifacts, StringComparison.Ordinal) => MlflowFault.Refused,
            HttpStatusCode.RequestTimeout or HttpStatusCode.TooManyRequests or HttpStatusCode.InternalServerError or HttpStatusCode.BadGateway
                or HttpStatusCode.ServiceUnavailable or HttpStatusCode.GatewayTimeout => MlflowFault.Unavailable,
            HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden or HttpStatusCode.ProxyAuthenticationRequired => MlflowFault.Denied,
            HttpStatusCode.NotFound => code is null ? MlflowFault.Denied : MlflowFault.Missing, // without a code this is no MLflow
            _ when code == "RESOURCE_ALREADY_EXISTS" => MlflowFault.Exists,
            _ when status is >= 300 and < 400 => MlflowFault.Denied,
            _ => MlflowFault.Refused,
        };
        var where = response.Headers.Location is { } location && status is >= 300 and < 400 ? $", which leads to {(location.IsAbsoluteUri ? location.GetLeftPart(UriPartial.Path) : location.OriginalString)}" : "";
        var text = $"{_uri} answered {status}{where}{(code is null ? "" : $" {code}")}{(words.Length == 0 ? "" : $": {words}")}";
        return new MlflowException(fault, _connection.Credentials.Scrub(text), RetryAfter(response));
    }

    private static (string? Code, string Words) Words(byte[] body)
    {
        try
        {
            if (JsonSerializer.Deserialize(body, MlflowJson.Default.MlflowError) is { ErrorCode: not null } error)
            {
                return (error.ErrorCode, OneLine(error.Message ?? ""));
            }
        }
        catch (JsonException)
        {
            // HTML, or plain text
        }

        var text = System.Text.Encoding.UTF8.GetString(body, 0, Math.Min(body.Length, 4096)).Trim();
        return (null, text.StartsWith('<') ? "a page of HTML" : OneLine(text));
    }

    private static string OneLine(string text) => MlflowLimits.Cut(string.Join(' ', text.Split('\n', StringSplitOptions.TrimEntries)), MessageLength);

    private static TimeSpan? RetryAfter(HttpResponseMessage response) => response.Headers.RetryAfter switch
    {
        { Delta: { } delta } => delta,
        { Date: { } date } => date - DateTimeOffset.UtcNow is var left && left > TimeSpan.Zero ? left : TimeSpan.Zero,
        _ => null,
    };
}
