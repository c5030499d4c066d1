using System.Diagnostics;
using System.Net.Http.Json;
using System.Text.Json;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>A headless Chromium, driven by chromedriver over the WebDriver protocol (https://www.w3.org/TR/webdriver2/).</summary>
internal sealed class Browser : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    // Chromium's own traffic is switched off: what remains is the page's.
    private static readonly string[] Arguments =
    [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-default-apps", "--window-size=1280,1000",
    ];

    private readonly string _profile = Directory.CreateTempSubdirectory("moe-browser-").FullName;
    private readonly Process _driver;
    private readonly HttpClient _client;
    private string _session = "";

    private Browser()
    {
        var start = new ProcessStartInfo("chromedriver", ["--port=0"]) { RedirectStandardOutput = true, RedirectStandardError = true };
        _driver = Process.Start(start)!;
        _driver.ErrorDataReceived += (_, _) => { };
        _driver.BeginErrorReadLine();
        _client = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{Port()}"), Timeout = TimeSpan.FromSeconds(60) };
        _ = _driver.StandardOutput.ReadToEndAsync();
    }

    /// <summary>Starts a browser; where none is installed the test says so and is not run.</summary>
    public static async Task<Browser> StartAsync()
    {
        if (!IsInstalled("chromium") || !IsInstalled("chromedriver"))
        {
            Assert.Ignore("NOT RUN: no Chromium here; scripts/setup.sh --tests installs it, or: apt-get install chromium chromium-driver");
        }

        var browser = new Browser();
        try
        {
            await browser.OpenSessionAsync();
            return browser;
        }
        catch
        {
            browser.Dispose();
            throw;
        }
    }

    public Task GoAsync(string address) => PostAsync("url", new { url = address });

    /// <summary>Runs the body of a function in the page.</summary>
    public Task<JsonElement> RunAsync(string script) => PostAsync("execute/sync", new { script, args = Array.Empty<object>() });

    /// <summary>Waits until a condition holds in the page.</summary>
    public async Task UntilAsync(string condition)
    {
        for (var clock = Stopwatch.StartNew(); (await RunAsync($"return Boolean({condition})")).ValueKind != JsonValueKind.True; await Task.Delay(100))
        {
            if (clock.Elapsed > Patience)
            {
                var page = await RunAsync("return document.body.innerText.slice(0, 3000)");
                Assert.Fail($"waited {Patience} in vain for {condition}; the page says\n{page}\n{string.Join('\n', await ErrorsAsync())}");
            }
        }
    }

    /// <summary>Makes the page as wide as a device of so many pixels.</summary>
    public Task ResizeAsync(int width, int height) => PostAsync(
        "goog/cdp/execute",
        new { cmd = "Emulation.setDeviceMetricsOverride", @params = new { width, height, deviceScaleFactor = 1, mobile = false } });

    /// <summary>Shows the page in a scheme, on a medium.</summary>
    /// <param name="scheme"><c>light</c> or <c>dark</c>.</param>
    /// <param name="medium"><c>screen</c> or <c>print</c>.</param>
    public Task ShowAsync(string scheme, string medium) => PostAsync(
        "goog/cdp/execute",
        new { cmd = "Emulation.setEmulatedMedia", @params = new { media = medium, features = new[] { new { name = "prefers-color-scheme", value = scheme } } } });

    /// <summary>What the console says of errors since the last call: scripts that failed, policies that were violated, requests that failed.</summary>
    public async Task<IReadOnlyList<string>> ErrorsAsync() =>
        [.. (await LogAsync("browser")).Where(entry => entry.GetProperty("level").GetString() == "SEVERE").Select(entry => entry.GetProperty("message").GetString()!)];

    /// <summary>Addresses that the page has asked for since the last call.</summary>
    public async Task<IReadOnlyList<string>> RequestsAsync() =>
    [
        .. (await LogAsync("performance")).Select(entry => JsonDocument.Parse(entry.GetProperty("message").GetString()!).RootElement.GetProperty("message"))
            .Where(message => message.GetProperty("method").GetString() == "Network.requestWillBeSent")
            .Select(message => message.GetProperty("params").GetProperty("request").GetProperty("url").GetString()!),
    ];

    public void Dispose()
    {
        try
        {
            if (_session.Length > 0)
            {
                _client.DeleteAsync(new Uri($"session/{_session}", UriKind.Relative)).GetAwaiter().GetResult().Dispose();
            }
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
        {
            // It is gone already.
        }

        _driver.Kill(entireProcessTree: true);
        _driver.Dispose();
        _client.Dispose();
        Directory.Delete(_profile, recursive: true);
    }

    private static bool IsInstalled(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(folder => File.Exists(Path.Combine(folder, program)));

    private int Port()
    {
        const string Mark = "on port ";
        while (_driver.StandardOutput.ReadLine() is { } line)
        {
            if (line.LastIndexOf(Mark, StringComparison.Ordinal) is var at and >= 0 && int.TryParse(line[(at + Mark.Length)..].TrimEnd('.'), out var port) && port > 0)
            {
                return port;
            }
        }

        throw new InvalidOperationException("chromedriver ended before it said its port");
    }

    private async Task OpenSessionAsync()
    {
        var options = new Dictionary<string, object>
        {
            ["browserName"] = "chrome",
            ["goog:chromeOptions"] = new { binary = "/usr/bin/chromium", args = Arguments.Append($"--user-data-dir={_profile}") },
            ["goog:loggingPrefs"] = new { browser = "ALL", performance = "ALL" },
        };
        var answer = await SendAsync("session", new { capabilities = new { alwaysMatch = options } });
        _session = answer.GetProperty("sessionId").GetString()!;
    }

    private async Task<JsonElement[]> LogAsync(string type) => [.. (await PostAsync("se/log", new { type })).EnumerateArray()];

    private Task<JsonElement> PostAsync(string command, object body) => SendAsync($"session/{_session}/{command}", body);

    private async Task<JsonElement> SendAsync(string path, object body)
    {
        // Sent whole: chromedriver reads no chunks.
        using var content = new StringContent(JsonSerializer.Serialize(body), System.Text.Encoding.UTF8, "application/json");
        using var answer = await _client.PostAsync(new Uri(path, UriKind.Relative), content);
        var value = (await answer.Content.ReadFromJsonAsync<JsonElement>()).GetProperty("value");
        return answer.IsSuccessStatusCode ? value : throw new InvalidOperationException($"{path}: {value}");
    }
}
