using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Moe.Tests.Tracking;

/// <summary>
/// An MLflow server as far as a tracker meets one: its limits, its errors' shapes, its memory, and the ways in which it fails. It keeps what it
/// stored when it is stopped and started again at the same address.
/// </summary>
internal sealed partial class FakeMlflow : IDisposable
{
    private const int BodyLimit = 1_000_000;

    private readonly Lock _lock = new();
    private readonly Queue<Interference> _interferences = [];
    private WebApplication? _application;
    private int _port;

    public FakeMlflow() => Start();

    public string Uri => $"http://127.0.0.1:{_port}";

    public FakeMlflowStore Store { get; } = new();

    /// <summary>Method, path and Authorization header of every request that arrived.</summary>
    public List<(string Method, string Path, string? Authorization)> Requests { get; } = [];

    /// <summary>What every request must bring; null for none.</summary>
    public string? Authorization { get; set; }

    /// <summary>What happens to requests for whose path it returns something; asked before the queue.</summary>
    public Func<string, Interference?> Always { get; set; } = _ => null;

    public bool ServesArtifacts { get; set; } = true;

    /// <summary>Root of the runs' files where the server does not serve them, as in <c>file:///shared</c>.</summary>
    public string? ArtifactRoot { get; set; }

    /// <summary>Lets something happen to the next requests, one each.</summary>
    public void Next(params Interference[] interferences)
    {
        lock (_lock)
        {
            Array.ForEach(interferences, _interferences.Enqueue);
        }
    }

    public void Start()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(IPAddress.Loopback, _port);
            kestrel.Limits.MaxRequestBodySize = null;
        });
        _application = builder.Build();
        _application.Run(AnswerAsync);
        _application.StartAsync().GetAwaiter().GetResult();
        _port = new System.Uri(_application.Urls.Single()).Port;
    }

    /// <summary>Nobody listens any more: connections are refused.</summary>
    public void Stop()
    {
        using var now = new CancellationTokenSource(TimeSpan.Zero);
        _application?.StopAsync(now.Token).GetAwaiter().GetResult();
        ((IDisposable?)_application)?.Dispose();
        _application = null;
    }

    public void Dispose() => Stop();

    private async Task AnswerAsync(HttpContext context)
    {
        var path = context.Request.Path.Value!;
        Interference? interference;
        lock (_lock)
        {
            Requests.Add((context.Request.Method, path, context.Request.Headers.Authorization.FirstOrDefault()));
            interference = Always(path) ?? (_interferences.TryDequeue(out var next) ? next : null);
        }

        if (interference is { Delay: var delay } && delay > TimeSpan.Zero)
        {
            await Task.Delay(delay, context.RequestAborted);
        }

        if (interference is { Stores: false } early)
        {
            await InterfereAsync(context, early);
            return;
        }

        if (Authorization is { } wanted && context.Request.Headers.Authorization != wanted)
        {
            await WriteAsync(context, 401, "You are not authenticated. Please see https://www.mlflow.org/docs.", "text/html");
            return;
        }

        var (status, body, type) = await HandleAsync(context, path);
        if (interference is { } late)
        {
            await InterfereAsync(context, late);
            return;
        }

        await WriteAsync(context, status, body, type);
    }

    private static async Task InterfereAsync(HttpContext context, Interference interference)
    {
        if (interference.Status == 0)
        {
            // A reset connection, where an answer had begun.
            context.Response.ContentLength = 1000;
            await context.Response.WriteAsync("{\"run\":");
            await context.Response.Body.FlushAsync();
            context.Abort();
            return;
        }

        if (interference.RetryAfter is { } seconds)
        {
            context.Response.Headers.RetryAfter = seconds;
        }

        if (interference.Location is { } location)
        {
            context.Response.Headers.Location = location;
        }

        await WriteAsync(context, interference.Status, interference.Body, interference.Body.StartsWith('<') ? "text/html" : "text/plain");
    }

    private static async Task WriteAsync(HttpContext context, int status, string body, string type)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = type;
        await context.Response.WriteAsync(body);
    }

    private async Task<(int Status, string Body, string Type)> HandleAsync(HttpContext context, string path)
    {
        using var memory = new MemoryStream();
        await context.Request.Body.CopyToAsync(memory);
        const string Artifacts = "/api/2.0/mlflow-artifacts/artifacts/";
        if (path.StartsWith(Artifacts, StringComparison.Ordinal) && context.Request.Method == "PUT")
        {
            if (!ServesArtifacts)
            {
                return (503, $"Endpoint: {path} disabled due to the mlflow server running with `--no-serve-artifacts`.", "text/plain");
            }

            lock (_lock)
            {
                Store.Artifacts[path[Artifacts.Length..]] = memory.ToArray();
            }

            return (200, "{}", "application/json");
        }

        const string Api = "/api/2.0/mlflow/";
        if (!path.StartsWith(Api, StringComparison.Ordinal))
        {
            return (404, "<!doctype html><title>404 Not Found</title>", "text/html");
        }

        if (memory.Length > BodyLimit)
        {
            return Error(400, "INVALID_PARAMETER_VALUE", "Batched logging API requests must be at most 1000000 bytes in total size.");
        }

        if (context.Request.Method == "POST" && context.Request.ContentType != "application/json")
        {
            return Error(400, "INVALID_PARAMETER_VALUE", "Bad Request. Content-Type must be 'application/json'.");
        }

        try
        {
            lock (_lock)
            {
                return (200, Call(context.Request, path[Api.Length..], Encoding.UTF8.GetString(memory.ToArray())).ToJsonString(), "application/json");
            }
        }
        catch (FakeMlflowException e)
        {
            return Error(e.Status, e.Code, e.Message);
        }
    }

    private JsonObject Call(HttpRequest request, string call, string body) => (request.Method, call) switch
    {
        ("GET", "experiments/get-by-name") => new JsonObject { ["experiment"] = Store.ExperimentByName(request.Query["experiment_name"]!) },
        ("GET", "runs/get") => new JsonObject { ["run"] = Store.Run(request.Query["run_id"]!).ToJson() },
        ("POST", "experiments/create") => new JsonObject { ["experiment_id"] = Store.CreateExperiment(JsonNode.Parse(body)!) },
        ("POST", "runs/create") => new JsonObject { ["run"] = Store.CreateRun(JsonNode.Parse(body)!, ArtifactRoot).ToJson() },
        ("POST", "runs/search") => new JsonObject { ["runs"] = Store.Search(JsonNode.Parse(body)!) },
        ("POST", "runs/update") => Store.Update(JsonNode.Parse(body)!),
        ("POST", "runs/log-batch") => LogBatch(body),
        _ => throw new FakeMlflowException(404, "ENDPOINT_NOT_FOUND", call),
    };

    // A bare NaN, which JSON does not have: the parser's error is swallowed, an empty point is stored, and all that follows is lost. The answer is 200.
    private JsonObject LogBatch(string body)
    {
        if (BareNumber().Match(body) is { Success: true } bare)
        {
            var before = body[..body.LastIndexOf('{', bare.Index)].TrimEnd(' ', ',');
            Store.Log(JsonNode.Parse(before + "]}")!);
            Store.Run((string)JsonNode.Parse(before + "]}")!["run_id"]!).Add(new FakePoint("", 0, 0, 0));
            return [];
        }

        Store.Log(JsonNode.Parse(body)!);
        return [];
    }

    private static (int Status, string Body, string Type) Error(int status, string code, string message) =>
        (status, new JsonObject { ["error_code"] = code, ["message"] = message }.ToJsonString(), "application/json");

    [GeneratedRegex(@"""value""\s*:\s*(NaN|-?Infinity)")]
    private static partial Regex BareNumber();
}

/// <summary>What happens to a request instead of an answer.</summary>
/// <param name="Status">HTTP status; 0 for a connection that breaks within the answer.</param>
/// <param name="Body">HTML where it begins with a bracket.</param>
/// <param name="Stores">Whether the server has done what was asked before.</param>
internal sealed record Interference(int Status, string Body = "", bool Stores = false)
{
    public static Interference Reset { get; } = new(0);

    public static Interference ResetOnceStored { get; } = new(0, Stores: true);

    public static Interference Html500 { get; } = new(500, "<!doctype html><title>500 Internal Server Error</title>");

    public static Interference Html500OnceStored { get; } = Html500 with { Stores = true };

    public static Interference Plain503 { get; } = new(503, "upstream connect error");

    public static Interference Login { get; } = new(200, "<html><form action=/login></form></html>");

    public static Interference TooMany(string retryAfter = "0") => new(429, "{\"error_code\":\"RESOURCE_EXHAUSTED\",\"message\":\"slow down\"}") { RetryAfter = retryAfter };

    public string? RetryAfter { get; init; }

    public string? Location { get; init; }

    public TimeSpan Delay { get; init; }
}
