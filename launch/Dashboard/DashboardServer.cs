using System.Collections.Concurrent;
using System.Net;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Moe.Training.Hosting;
using Moe.Training.Reports;

namespace Moe.Launch.Dashboard;

/// <summary>The live page: reads run folders from disk and writes nothing. A client that is slow or gone costs nobody else anything.</summary>
internal sealed class DashboardServer : IAsyncDisposable
{
    public const string HealthPath = "/healthz";

    private const int MostConnections = 512;
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(10);

    private readonly WebApplication _web;
    private readonly RunCatalog _runs;
    private readonly ConcurrentDictionary<string, (DateTime Changed, long Rows, RunSummary Summary)> _summaries = new();

    private DashboardServer(WebApplication web, RunCatalog runs)
    {
        _web = web;
        _runs = runs;
    }

    /// <summary>The port that is listened on.</summary>
    public int Port { get; private set; }

    /// <summary>Starts to listen.</summary>
    /// <param name="runs">What may be shown.</param>
    /// <param name="address">Of this machine.</param>
    /// <param name="port">0 for any that is free.</param>
    /// <param name="token">The secret that a client needs; null for none.</param>
    /// <exception cref="LaunchException">The port is in use, or the address is not this machine's.</exception>
    public static async Task<DashboardServer> StartAsync(RunCatalog runs, IPAddress address, int port, string? token)
    {
        // Empty: neither files nor environment variables of the surroundings change what is served, and where.
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxConcurrentConnections = MostConnections;
            kestrel.Listen(address, port);
        });
        builder.Services.AddRoutingCore();
        builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromSeconds(1));
        var server = new DashboardServer(builder.Build(), runs);
        server.Map(new DashboardAccess(address, token));
        try
        {
            await server._web.StartAsync().ConfigureAwait(false);
        }
        catch (IOException e)
        {
            await server.DisposeAsync().ConfigureAwait(false);
            throw new LaunchException(
                ExitCodes.Preflight,
                $"the live page cannot be served on {new IPEndPoint(address, port)}: {(e.InnerException is AddressInUseException ? "the port is in use" : e.Message)}",
                "another port, or port 0 for any that is free");
        }
        catch (System.Net.Sockets.SocketException e)
        {
            await server.DisposeAsync().ConfigureAwait(false);
            throw new LaunchException(ExitCodes.Usage, $"the live page cannot be served on {new IPEndPoint(address, port)}: {e.Message}", "an address of this machine");
        }

        server.Port = new Uri(server._web.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First()).Port;
        return server;
    }

    public async ValueTask DisposeAsync() => await _web.DisposeAsync().ConfigureAwait(false);

    private void Map(DashboardAccess access)
    {
        _web.Use(async (context, next) =>
        {
            var headers = context.Response.Headers;
            headers.ContentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
            headers.XContentTypeOptions = "nosniff";
            headers["Referrer-Policy"] = "no-referrer";
            headers["Cross-Origin-Resource-Policy"] = "same-origin";
            headers.CacheControl = "no-store";
            if (await access.AdmitAsync(context).ConfigureAwait(false))
            {
                await next(context).ConfigureAwait(false);
            }
        });
        _web.UseRouting();
        MapGet("/", context => WritePageAsync(context, "runs", "Runs", null));
        MapGet("/compare", context => WritePageAsync(context, "compare", "Comparison", null));
        MapGet("/runs/{name}", context => WithRunAsync(context, (name, _) => WritePageAsync(context, "run", name, name)));
        MapGet("/page.css", context => WriteAsync(context, "text/css; charset=utf-8", PageParts.Style));
        MapGet("/page.js", context => WriteAsync(context, "text/javascript; charset=utf-8", PageParts.Script));
        MapGet("/api/runs", context => WriteJsonAsync(context, json => JsonSerializer.Serialize(json, Summaries(), DashboardJson.Default.IReadOnlyListRunSummary)));
        MapGet("/api/runs/{name}", context => WithRunAsync(context, (_, folder) => WriteJsonAsync(
            context, json => RunSnapshotJson.Write(json, new RunSnapshotReader(folder, _runs.Opener()).Read()))));
        MapGet("/api/runs/{name}/stream", context => WithRunAsync(context, (_, folder) => StreamAsync(context, folder)));
        MapGet("/api/runs/{name}/logs/{log}", context => WithRunAsync(context, (_, folder) => WriteLogAsync(context, folder)));
        MapGet("/metrics", context => WriteAsync(context, PrometheusText.ContentType, RunGauges.Write(_runs, DateTime.UtcNow)));
        MapGet(HealthPath, context => WriteAsync(context, "text/plain; charset=utf-8", "ok\n"));
    }

    private void MapGet(string pattern, RequestDelegate handler) => _web.MapMethods(pattern, ["GET", "HEAD"], handler);

    private async Task WithRunAsync(HttpContext context, Func<string, RunFolder, Task> answer)
    {
        var name = (string)context.GetRouteValue("name")!;
        if (_runs.Find(name) is { } folder)
        {
            await answer(name, folder).ConfigureAwait(false);
        }
        else
        {
            context.Response.StatusCode = StatusCodes.Status404NotFound;
            await WriteAsync(context, "text/plain; charset=utf-8", "There is no such run.\n").ConfigureAwait(false);
        }
    }

    private List<RunSummary> Summaries()
    {
        var open = _runs.Opener();
        return [.. _runs.Runs(open).Select(run => Summary(run.Name, run.Folder, open))];
    }

    // Read again only where the files have changed: many pages may ask, each every few seconds.
    private RunSummary Summary(string name, RunFolder folder, OpenRunFile open)
    {
        var changed = File.GetLastWriteTimeUtc(folder.RunFile);
        var rows = new FileInfo(folder.MetricsFile) is { Exists: true } file ? file.Length : 0;
        if (!_summaries.TryGetValue(name, out var known) || known.Changed != changed || known.Rows != rows)
        {
            _summaries[name] = known = (changed, rows, RunSummary.Read(name, folder, open));
        }

        return known.Summary;
    }

    private async Task StreamAsync(HttpContext context, RunFolder folder)
    {
        var from = RunCursor.Parse(context.Request.Headers["Last-Event-ID"]) ?? RunCursor.Parse(context.Request.Query["after"]);
        if (from is null)
        {
            context.Response.StatusCode = StatusCodes.Status400BadRequest;
            await WriteAsync(context, "text/plain; charset=utf-8", "after=CURSOR is missing: /api/runs/NAME gives one.\n").ConfigureAwait(false);
            return;
        }

        context.Response.ContentType = "text/event-stream";
        context.Response.Headers["X-Accel-Buffering"] = "no"; // proxies would hold events back
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, _web.Lifetime.ApplicationStopping);
        try
        {
            await FollowAsync(context.Response, new RunStream(folder, _runs.Open, from), ended.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException)
        {
            // The client or the launcher has gone.
        }
    }

    private static async Task FollowAsync(HttpResponse response, RunStream stream, CancellationToken cancellation)
    {
        await response.WriteAsync("retry: 2000\n\n", cancellation).ConfigureAwait(false);
        var said = DateTime.UtcNow;
        while (!stream.IsReset)
        {
            // Waits for the client alone, and for what it has not taken yet nothing more is read.
            var events = stream.Poll();
            if (events.Count > 0 || DateTime.UtcNow - said > Heartbeat)
            {
                await response.WriteAsync(events.Count > 0 ? string.Concat(events) : ": alive\n\n", cancellation).ConfigureAwait(false);
                await response.Body.FlushAsync(cancellation).ConfigureAwait(false);
                said = DateTime.UtcNow;
            }

            await Task.Delay(Interval, cancellation).ConfigureAwait(false);
        }
    }

    private Task WriteLogAsync(HttpContext context, RunFolder folder)
    {
        var log = (string)context.GetRouteValue("log")!;
        var path = log == "launcher" ? folder.LauncherLogFile : int.TryParse(log, out var rank) && rank >= 0 ? folder.LogFile(rank) : null;
        using var stream = path is null ? null : _runs.Open(path);
        var tail = LogTail.Read(stream, long.TryParse(context.Request.Query["after"], out var after) && after >= 0 ? after : null);
        return WriteJsonAsync(context, json => JsonSerializer.Serialize(json, tail, DashboardJson.Default.LogTail));
    }

    private static Task WritePageAsync(HttpContext context, string view, string title, string? run) => WriteAsync(context, "text/html; charset=utf-8", $"""
        <!DOCTYPE html>
        <html lang="en" data-view="{view}"{(run is null ? "" : $" data-run=\"{WebUtility.HtmlEncode(run)}\"")}>
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <link rel="icon" href="data:,">
        <title>{WebUtility.HtmlEncode(title)}</title>
        <link rel="stylesheet" href="/page.css">
        <script defer src="/page.js"></script>
        </head>
        <body>
        <header class="bar"><a href="/">Runs</a><span id="state" role="status"></span></header>
        <noscript><p>This page needs its script.</p></noscript>
        <main id="page"></main>
        </body>
        </html>

        """);

    private static async Task WriteJsonAsync(HttpContext context, Action<Utf8JsonWriter> write)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            write(json);
        }

        context.Response.ContentType = "application/json";
        await context.Response.Body.WriteAsync(buffer.GetBuffer().AsMemory(0, (int)buffer.Length), context.RequestAborted).ConfigureAwait(false);
    }

    private static async Task WriteAsync(HttpContext context, string type, string text)
    {
        context.Response.ContentType = type;
        await context.Response.Body.WriteAsync(Encoding.UTF8.GetBytes(text), context.RequestAborted).ConfigureAwait(false);
    }
}
