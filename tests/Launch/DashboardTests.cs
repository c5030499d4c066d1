using System.Diagnostics;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Moe.Launch.Dashboard;
using Moe.Tests.Reports;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>The live page by HTTP: what it shows, to whom, and what it never does.</summary>
internal sealed class DashboardTests
{
    private const string Token = "a secret";

    private string _folder = "";
    private DrawnRun _run = null!;
    private DashboardServer _server = null!;
    private HttpClient _client = null!;

    [SetUp]
    public async Task Start()
    {
        _folder = Directory.CreateTempSubdirectory("moe-dashboard-").FullName;
        _run = new DrawnRun(Path.Combine(_folder, "runs", "first"));
        _run.AddStep(1);
        _run.AddStep(2);
        File.WriteAllText(Path.Combine(_folder, "secret.txt"), "not for pages\n");
        _server = await StartAsync(token: null);
        _client = Client(_server);
    }

    [TearDown]
    public async Task Stop()
    {
        _client.Dispose();
        await _server.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Test]
    public async Task Runs_are_listed_with_where_they_stand()
    {
        Directory.CreateDirectory(Path.Combine(_folder, "runs", "no-run"));
        var runs = JsonDocument.Parse(await _client.GetStringAsync("/api/runs")).RootElement;

        Assert.That(runs.GetArrayLength(), Is.EqualTo(1));
        Assert.That(runs[0].GetProperty("name").GetString(), Is.EqualTo("first"));
        Assert.That(runs[0].GetProperty("step").GetInt64(), Is.EqualTo(2));
        Assert.That(runs[0].GetProperty("last_step").GetInt64(), Is.EqualTo(100));
        Assert.That(runs[0].GetProperty("loss").GetDouble(), Is.EqualTo(2.5));
    }

    [Test]
    public async Task Pages_come_with_a_policy_that_allows_nothing_from_elsewhere()
    {
        foreach (var path in new[] { "/", "/runs/first", "/compare?run=first", "/page.js", "/page.css", "/api/runs/first" })
        {
            using var answer = await _client.GetAsync(path);
            Assert.That(answer.StatusCode, Is.EqualTo(HttpStatusCode.OK), path);
            Assert.That(answer.Headers.GetValues("Content-Security-Policy").Single(), Does.StartWith("default-src 'none'; script-src 'self';"));
            Assert.That(answer.Headers.GetValues("X-Content-Type-Options").Single(), Is.EqualTo("nosniff"));
        }
    }

    [Test]
    public async Task Name_of_a_run_is_text_in_its_page()
    {
        _ = new DrawnRun(Path.Combine(_folder, "runs", "<script>alert(1)<"));
        var page = await _client.GetStringAsync("/runs/" + Uri.EscapeDataString("<script>alert(1)<"));

        Assert.That(page, Does.Contain("data-run=\"&lt;script&gt;alert(1)&lt;\"").And.Not.Contain("<script>alert"));
    }

    [TestCase("/runs/..")]
    [TestCase("/api/runs/../secret.txt")]
    [TestCase("/api/runs/..%2Fsecret.txt")]
    [TestCase("/api/runs/%2e%2e")]
    [TestCase("/api/runs/%2e%2e%2f%2e%2e%2fetc")]
    [TestCase("/api/runs/first%2f..%2f..")]
    [TestCase("/api/runs/%2fetc")]
    [TestCase("/api/runs/first/logs/..%2f..%2f..%2fsecret.txt")]
    [TestCase("/api/runs/first/logs/../../../secret.txt")]
    [TestCase("/api/runs/first/logs/-1")]
    [TestCase("/api/runs/first%00")]
    [TestCase("/secret.txt")]
    [TestCase("/../secret.txt")]
    [TestCase("//etc/passwd")]
    public async Task Path_to_elsewhere_leads_nowhere(string path)
    {
        var answer = await RawAsync($"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");

        Assert.That(answer, Does.StartWith("HTTP/1.1 404").Or.StartWith("HTTP/1.1 400").Or.Contain("{\"text\":\"\",\"next\":0}").Or.Contain("data-view=\"runs\""));
        Assert.That(answer, Does.Not.Contain("not for pages").And.Not.Contain("root:"));
    }

    [Test]
    public async Task Link_that_leads_out_is_not_followed_and_one_that_stays_is()
    {
        File.CreateSymbolicLink(_run.Folder.LogFile(7), Path.Combine(_folder, "secret.txt"));
        File.CreateSymbolicLink(_run.Folder.LogFile(8), _run.Folder.LogFile(0));
        var outside = new DrawnRun(Path.Combine(_folder, "outside"));
        Directory.CreateSymbolicLink(Path.Combine(_folder, "runs", "out"), outside.Folder.Path);
        Directory.CreateSymbolicLink(Path.Combine(_folder, "runs", "in"), _run.Folder.Path);

        Assert.That(await _client.GetStringAsync("/api/runs/first/logs/7"), Does.Not.Contain("not for pages"));
        Assert.That(await _client.GetStringAsync("/api/runs/first/logs/8"), Does.Contain("rank 0 says hello"));
        Assert.That((await _client.GetAsync("/api/runs/out")).StatusCode, Is.EqualTo(HttpStatusCode.NotFound));
        Assert.That((await _client.GetAsync("/api/runs/in")).StatusCode, Is.EqualTo(HttpStatusCode.OK));
        Assert.That(await _client.GetStringAsync("/api/runs"), Does.Not.Contain("\"out\""));
    }

    [Test]
    public async Task Pipe_in_a_run_folder_holds_nobody_up([Values("metrics.jsonl", "run.json", "events.jsonl")] string file)
    {
        var path = Path.Combine(_run.Folder.Path, file);
        File.Delete(path);
        Process.Start("mkfifo", [path]).WaitForExit();
        try
        {
            foreach (var address in new[] { "/api/runs", "/api/runs/first", "/metrics" })
            {
                using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(10));
                using var answer = await _client.GetAsync(address, patience.Token);
                Assert.That(answer.StatusCode, Is.EqualTo(file == "run.json" && address == "/api/runs/first" ? HttpStatusCode.NotFound : HttpStatusCode.OK), address);
            }
        }
        finally
        {
            // Frees whoever waits for a writer.
            using var writer = new FileStream(path, FileMode.Open, FileAccess.ReadWrite);
        }
    }

    [Test]
    public void Folder_in_the_place_of_a_file_is_none()
    {
        Directory.CreateDirectory(_run.Folder.DomainsFile);
        Assert.That(RunCatalog.At(Path.Combine(_folder, "runs")).Open(_run.Folder.DomainsFile), Is.Null);
    }

    [Test]
    public void Run_is_found_without_a_look_at_all_others()
    {
        const int Runs = 2000;
        var runs = Path.Combine(_folder, "many");
        for (var i = 0; i < Runs; i++)
        {
            Directory.CreateDirectory(Path.Combine(runs, $"run-{i}"));
        }

        var catalog = RunCatalog.At(runs);
        var enumerations = Stopwatch.StartNew();
        for (var i = 0; i < 30; i++)
        {
            Assert.That(Directory.EnumerateDirectories(runs).Count(), Is.EqualTo(Runs));
        }

        enumerations.Stop();
        var searches = Stopwatch.StartNew();
        for (var i = 0; i < 300; i++)
        {
            Assert.That(catalog.Find("no-such-run"), Is.Null);
        }

        Assert.That(searches.Elapsed, Is.LessThan(enumerations.Elapsed), "300 searches, and 30 times all names");
    }

    [TestCase("")]
    [TestCase(".")]
    [TestCase("..")]
    [TestCase("first/")]
    [TestCase("first/.")]
    [TestCase("first/../first")]
    [TestCase("../runs/first")]
    [TestCase("/etc")]
    [TestCase("first\0")]
    public void Name_that_is_a_path_is_no_run(string name)
    {
        File.WriteAllText(Path.Combine(_folder, "run.json"), "{}");
        File.WriteAllText(Path.Combine(_folder, "runs", "run.json"), "{}");
        Assert.That(RunCatalog.At(Path.Combine(_folder, "runs", "first")).Find(name), Is.Null);
        File.Delete(Path.Combine(_folder, "runs", "run.json"));
        Assert.That(RunCatalog.At(Path.Combine(_folder, "runs")).Find(name), Is.Null);
    }

    [Test]
    public async Task One_run_alone_shows_none_of_its_neighbours()
    {
        _ = new DrawnRun(Path.Combine(_folder, "runs", "second"));
        await using var server = await DashboardServer.StartAsync(RunCatalog.At(_run.Folder.Path), IPAddress.Loopback, 0, null);
        using var client = Client(server);

        Assert.That(await client.GetStringAsync("/api/runs"), Does.Contain("first").And.Not.Contain("second"));
        Assert.That((await client.GetAsync("/api/runs/second")).StatusCode, Is.EqualTo(HttpStatusCode.NotFound));
    }

    [TestCase("127.0.0.1:5080", ExpectedResult = true)]
    [TestCase("localhost", ExpectedResult = true)]
    [TestCase("[::1]:80", ExpectedResult = true)]
    [TestCase("evil.example", ExpectedResult = false)]
    [TestCase("127.0.0.1.evil.example", ExpectedResult = false)]
    [TestCase("localhost.evil.example", ExpectedResult = false)]
    [TestCase("10.0.0.1", ExpectedResult = false)]
    public async Task<bool> Name_that_is_not_this_machines_is_refused(string host)
    {
        var answer = await RawAsync($"GET /api/runs HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        Assert.That(answer, Does.StartWith("HTTP/1.1 200").Or.StartWith("HTTP/1.1 421"));
        return answer.StartsWith("HTTP/1.1 200", StringComparison.Ordinal);
    }

    [TestCase("", ExpectedResult = true)]
    [TestCase(".evil.example", ExpectedResult = false)]
    [TestCase(".", ExpectedResult = false)]
    [TestCase("-evil.example", ExpectedResult = false)]
    public bool Beyond_this_machine_its_own_name_counts_and_none_that_begins_with_it(string rest) =>
        new DashboardAccess(IPAddress.Any, Token).IsOwnHost(Dns.GetHostName() + rest);

    [Test]
    public async Task With_a_token_nothing_is_shown_without_it()
    {
        await using var server = await StartAsync(Token);
        using var client = Client(server);
        foreach (var path in new[] { "/", "/api/runs", "/api/runs/first", "/api/runs/first/stream?after=1-0-0-0-0-0", "/metrics", "/page.js", "/api/runs?token=wrong", "/api/runs?token=" })
        {
            Assert.That((await client.GetAsync(path)).StatusCode, Is.EqualTo(HttpStatusCode.Unauthorized), path);
        }

        Assert.That((await client.GetAsync("/healthz")).StatusCode, Is.EqualTo(HttpStatusCode.OK));
        Assert.That((await client.GetAsync("/metrics?token=" + Uri.EscapeDataString(Token))).StatusCode, Is.EqualTo(HttpStatusCode.OK));
        client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", Token);
        Assert.That((await client.GetAsync("/api/runs")).StatusCode, Is.EqualTo(HttpStatusCode.OK));
    }

    [Test]
    public async Task Token_in_an_address_becomes_a_cookie()
    {
        await using var server = await StartAsync(Token);
        using var client = Client(server);
        client.DefaultRequestHeaders.Accept.ParseAdd("text/html");
        using var first = await client.GetAsync("/runs/first?x=1&token=" + Uri.EscapeDataString(Token));

        Assert.That(first.StatusCode, Is.EqualTo(HttpStatusCode.Redirect));
        Assert.That(first.Headers.Location!.ToString(), Is.EqualTo("/runs/first?x=1"));
        var cookie = first.Headers.GetValues("Set-Cookie").Single();
        Assert.That(cookie, Does.Contain("httponly").IgnoreCase.And.Contain("samesite=lax").IgnoreCase);
        client.DefaultRequestHeaders.Add("Cookie", cookie.Split(';')[0]);
        Assert.That((await client.GetAsync("/runs/first?x=1")).StatusCode, Is.EqualTo(HttpStatusCode.OK));
    }

    [TestCase("//evil.example/x", "/evil.example/x")]
    [TestCase("///evil.example/x", "/evil.example/x")]
    [TestCase("/.//evil.example/x", "/evil.example/x")]
    [TestCase("/%5Cevil.example/x", "/evil.example/x")]
    [TestCase("http://localhost//evil.example/x", "/evil.example/x")]
    public async Task Token_leads_to_no_other_site(string path, string location)
    {
        await using var server = await StartAsync(Token);
        var answer = await RawAsync($"GET {path}?token={Uri.EscapeDataString(Token)} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nConnection: close\r\n\r\n", server.Port);

        Assert.That(answer, Does.StartWith("HTTP/1.1 302").And.Match($"(?m)^Location: {location}\r$"));
    }

    [Test]
    public async Task Nothing_can_be_sent([Values("POST", "PUT", "DELETE")] string method)
    {
        using var answer = await _client.SendAsync(new HttpRequestMessage(new HttpMethod(method), "/api/runs"));
        Assert.That(answer.StatusCode, Is.EqualTo(HttpStatusCode.MethodNotAllowed));
    }

    [Test]
    public async Task Stream_goes_on_where_the_page_stands_and_where_the_browser_was()
    {
        var cursor = JsonDocument.Parse(await _client.GetStringAsync("/api/runs/first")).RootElement.GetProperty("cursor").GetString();
        _run.AddStep(3);
        _run.AddEvent("checkpoint", "saved");
        var events = await EventsAsync(_client, $"/api/runs/first/stream?after={cursor}", null, until: "event: run");
        Assert.That(Names(events), Is.EqualTo(["metrics", "experts", "ranks", "event", "run"]));
        Assert.That(events[0], Does.Contain("data: {\"step\":3,"));

        _run.AddStep(4);
        var id = events.Last(text => text.Contains("\nid: ", StringComparison.Ordinal)).Split('\n')[1]["id: ".Length..];
        var next = await EventsAsync(_client, $"/api/runs/first/stream?after={cursor}", id, until: "event: run");
        Assert.That(next[0], Does.Contain("data: {\"step\":4,"), "the header counts more than the address");
        Assert.That(next.Count(text => text.Contains("event: metrics", StringComparison.Ordinal)), Is.EqualTo(1));
    }

    [Test]
    public void Half_a_line_waits_for_its_end()
    {
        var stream = new RunStream(_run.Folder, RunCatalog.At(Path.Combine(_folder, "runs")).Open, Cursor());
        Assert.That(Names(stream.Poll()), Is.EqualTo(["run"]));
        File.AppendAllText(_run.Folder.MetricsFile, "{\"step\":3,");
        Assert.That(stream.Poll(), Is.Empty);
        File.AppendAllText(_run.Folder.MetricsFile, "\"train/loss\":1}\n");
        Assert.That(stream.Poll(), Has.One.Contains("data: {\"step\":3,\"train/loss\":1}\n"));
    }

    [Test]
    public void Run_that_goes_on_from_an_older_checkpoint_makes_the_page_begin_anew()
    {
        var catalog = RunCatalog.At(Path.Combine(_folder, "runs"));
        var cut = new RunStream(_run.Folder, catalog.Open, Cursor());
        cut.Poll();
        File.WriteAllText(_run.Folder.MetricsFile, File.ReadLines(_run.Folder.MetricsFile).First() + "\n");
        Assert.That(Names(cut.Poll()), Is.EqualTo(["reset"]));
        Assert.That(cut.IsReset, Is.True);

        var continued = new RunStream(_run.Folder, catalog.Open, Cursor());
        continued.Poll();
        _run.WriteRecord("a-run", "starting", attempt: 2);
        Assert.That(Names(continued.Poll()), Is.EqualTo(["reset"]));
    }

    [Test]
    public void End_of_a_run_is_told_once()
    {
        var stream = new RunStream(_run.Folder, RunCatalog.At(Path.Combine(_folder, "runs")).Open, Cursor());
        stream.Poll();
        _run.WriteRecord("a-run", "done");
        Assert.That(Names(stream.Poll()), Is.EqualTo(["run", "end"]));
        Assert.That(stream.Poll(), Is.Empty);
    }

    [Test]
    public void Text_of_an_event_cannot_make_another() =>
        Assert.That(RunStream.Format("metrics", "{\r\"a\":\n1}", "1"), Is.EqualTo("event: metrics\nid: 1\ndata: { \"a\": 1}\n\n"));

    [Test]
    public async Task Client_that_takes_nothing_hinders_no_other()
    {
        using var idle = new TcpClient();
        await idle.ConnectAsync(IPAddress.Loopback, _server.Port);
        await idle.GetStream().WriteAsync(Encoding.ASCII.GetBytes("GET /api/runs/first/stream?after=1-0-0-0-0-0 HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        for (var step = 3; step < 3000; step++)
        {
            _run.AddStep(step);
        }

        var clock = Stopwatch.StartNew();
        var cursor = JsonDocument.Parse(await _client.GetStringAsync("/api/runs/first")).RootElement.GetProperty("cursor").GetString();
        _run.AddStep(3000);
        var events = await EventsAsync(_client, $"/api/runs/first/stream?after={cursor}", null, until: "event: run");
        Assert.That(events[0], Does.Contain("\"step\":3000,"));
        Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(5)));
    }

    [Test]
    public async Task Metrics_are_in_the_text_format_of_Prometheus()
    {
        using var answer = await _client.GetAsync("/metrics");
        var text = await answer.Content.ReadAsStringAsync();

        Assert.That(answer.Content.Headers.ContentType!.ToString(), Is.EqualTo("text/plain; version=0.0.4; charset=utf-8"));
        Assert.That(text, Does.Contain("# HELP moe_train_loss_nats Training loss of the last logged step, nats per token.\n# TYPE moe_train_loss_nats gauge\nmoe_train_loss_nats{run=\"first\"} 2.5\n"));
        Assert.That(text, Does.Contain("# TYPE moe_train_tokens_total counter\nmoe_train_tokens_total{run=\"first\"} 1024\n"));
        Assert.That(text, Does.Contain("moe_rank_busy_seconds{run=\"first\",rank=\"3\"} 0.023\n"));
        Assert.That(text, Does.Contain("moe_run_info{run=\"first\",status=\"running\",backend=\"gloo\",mesh=\"replica 1 x expert 4\",host=\"here\"} 1\n"));
        Assert.That(text.Split('\n')[..^1], Is.All.Match("""^(# (HELP [a-z_]+ .+|TYPE [a-z_]+ (gauge|counter))|[a-z_]+(\{[a-z_]+="([^"\\]|\\.)*"(,[a-z_]+="([^"\\]|\\.)*")*\})? \S+)$"""));
    }

    [Test]
    public async Task Run_without_a_row_yet_is_listed_and_measured()
    {
        var starting = new DrawnRun(Path.Combine(_folder, "runs", "starting"), status: "starting");
        File.WriteAllText(starting.Folder.MetricsFile, "");
        File.WriteAllText(starting.Folder.RanksFile, "");

        Assert.That(await _client.GetStringAsync("/api/runs"), Does.Contain("\"name\":\"starting\""));
        Assert.That(await _client.GetStringAsync("/metrics"), Does.Contain("moe_run_info{run=\"starting\"").And.Not.Contain("moe_train_step{run=\"starting\""));
    }

    [Test]
    public void Prometheus_text_escapes_and_groups()
    {
        var text = new PrometheusText();
        text.Add("a_total", "counter", "one\\two\nthree", 1, ("run", "q\"b\\n\nl"));
        text.Add("b", "gauge", "second", double.NaN);
        text.Add("a_total", "counter", "one", double.PositiveInfinity, ("run", "x"));
        text.Add("c", "gauge", "none", null);

        Assert.That(text.ToString(), Is.EqualTo(
            "# HELP a_total one\\\\two\\nthree\n# TYPE a_total counter\na_total{run=\"q\\\"b\\\\n\\nl\"} 1\na_total{run=\"x\"} +Inf\n# HELP b second\n# TYPE b gauge\nb NaN\n"));
    }

    [Test]
    public void Log_is_read_on_by_whole_lines()
    {
        var path = Path.Combine(_folder, "log");
        File.WriteAllText(path, "one\ntwo\nthr");
        var first = Read(null);
        Assert.That(first, Is.EqualTo(new LogTail("one\ntwo\n", 8)));
        File.AppendAllText(path, "ee\n");
        Assert.That(Read(first.Next), Is.EqualTo(new LogTail("three\n", 14)));
        Assert.That(Read(14), Is.EqualTo(new LogTail("", 14)));
        File.WriteAllText(path, "new\n");
        Assert.That(Read(14), Is.EqualTo(new LogTail("new\n", 4)), "made anew");
        File.WriteAllText(path, string.Concat(Enumerable.Repeat("123456789\n", 100_000)));
        Assert.That(Read(null).Text, Has.Length.InRange(65_000, 65_536).And.StartsWith("123456789\n").And.EndsWith("123456789\n"));

        LogTail Read(long? after)
        {
            using var stream = File.OpenRead(path);
            return LogTail.Read(stream, after);
        }
    }

    [Test]
    public void Port_in_use_is_said_before_anything_starts()
    {
        using var run = new LaunchedRun();
        var code = run.Start("done", "--backend", "gloo", "--dashboard", $"{_server.Port}").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(run.Error, Does.Contain($"✗ the live page cannot be served on 127.0.0.1:{_server.Port}: the port is in use"));
        Assert.That(Directory.Exists(run.Folder.Path), Is.False, "no run folder is made");
    }

    [TestCase(null, "me", null)]
    [TestCase("10.0.0.2 51234 10.0.0.1 22", "me", "ssh -L 5080:127.0.0.1:5080 me@10.0.0.1")]
    [TestCase("10.0.0.2 51234 10.0.0.1 2222", null, "ssh -L 5080:127.0.0.1:5080 -p 2222 10.0.0.1")]
    [TestCase("nonsense", "me", null)]
    public void User_who_came_by_ssh_is_told_how_to_see_the_page(string? connection, string? user, string? line) =>
        Assert.That(LiveDashboard.SshLine(connection, user, 5080), Is.EqualTo(line));

    private Task<DashboardServer> StartAsync(string? token) => DashboardServer.StartAsync(RunCatalog.At(Path.Combine(_folder, "runs")), IPAddress.Loopback, 0, token);

    private Moe.Training.Reports.RunCursor Cursor() =>
        new Moe.Training.Reports.RunSnapshotReader(_run.Folder, Moe.Training.Reports.RunFiles.Open).Read().Cursor;

    private static HttpClient Client(DashboardServer server) =>
        new(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false }) { BaseAddress = new Uri($"http://127.0.0.1:{server.Port}") };

    private async Task<string> RawAsync(string request, int? port = null)
    {
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, port ?? _server.Port);
        await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes(request));
        using var reader = new StreamReader(client.GetStream());
        return await reader.ReadToEndAsync();
    }

    private static IEnumerable<string> Names(IEnumerable<string> events) => events.Select(text => text.Split('\n')[0]["event: ".Length..]);

    private static async Task<List<string>> EventsAsync(HttpClient client, string path, string? lastId, string until)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        if (lastId is not null)
        {
            request.Headers.Add("Last-Event-ID", lastId);
        }

        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        using var answer = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, patience.Token);
        Assert.That(answer.Content.Headers.ContentType!.MediaType, Is.EqualTo("text/event-stream"));
        using var reader = new StreamReader(await answer.Content.ReadAsStreamAsync(patience.Token));
        var (events, text) = (new List<string>(), new StringBuilder());
        while (await reader.ReadLineAsync(patience.Token) is { } line)
        {
            if (line.Length > 0)
            {
                text.Append(line).Append('\n');
                continue;
            }

            if (text.ToString().StartsWith("event", StringComparison.Ordinal))
            {
                events.Add(text.ToString());
            }

            if (text.ToString().Contains(until, StringComparison.Ordinal))
            {
                break;
            }

            text.Clear();
        }

        return events;
    }
}
