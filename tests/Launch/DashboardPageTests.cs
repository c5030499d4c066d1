using System.Net;
using System.Text.RegularExpressions;
using Moe.Launch.Dashboard;
using Moe.Tests.Reports;
using Moe.Training.Hosting;
using Moe.Training.Reports;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>Report and live page in a real Chromium. Where none is installed these tests say that they were not run.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class DashboardPageTests
{
    private const string Attack = "<script>window.attacked=1</script><img src=x onerror='window.attacked=2'>";

    private string _folder = "";
    private Browser _browser = null!;

    [OneTimeSetUp]
    public async Task StartBrowser() => _browser = await Browser.StartAsync();

    [OneTimeTearDown]
    public void StopBrowser() => _browser?.Dispose();

    [SetUp]
    public async Task CreateFolder()
    {
        _folder = Directory.CreateTempSubdirectory("moe-page-").FullName;
        await _browser.GoAsync("about:blank");
        await _browser.RequestsAsync();
        await _browser.ErrorsAsync();
    }

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public async Task Live_page_of_a_job_on_four_ranks_shows_rising_steps_and_all_experts()
    {
        using var run = new LaunchedRun();
        File.WriteAllText(run.ConfigFile, """
            model: {layers: 2, width: 16, heads: 2, sequence_length: 16, moe: {experts: 8, top_k: 2, expert_width: 12}}
            data:
              domains:
                - {name: text, path: text.txt}
            train: {steps: 100000, micro_batch: 2, log_every: 5, eval_every: 20, eval_sequences: 16}
            """);
        run.StartTrainer("--config", run.ConfigFile, "--run-dir", run.Folder.Path, "--nodes", "4", "--backend", "gloo", "--dashboard", "0");
        run.Wait(() => run.Error.Contains("dashboard http://", StringComparison.Ordinal) && File.Exists(run.Folder.DomainsFile), "the page's address and an evaluation");
        await _browser.GoAsync(Regex.Match(run.Error, "dashboard (http://\\S+)").Groups[1].Value);
        await _browser.UntilAsync($"{Step} > 0");
        var first = (await _browser.RunAsync($"return {Step}")).GetInt32();
        await _browser.UntilAsync($"{Step} > {first} + 4");
        await _browser.UntilAsync("document.getElementById('load').querySelector('svg.heat').getAttribute('aria-label').includes('2 rows (layers), 8 columns (expert)')");
        await _browser.UntilAsync("document.getElementById('ranks').querySelectorAll('tbody tr').length === 4");
        await _browser.UntilAsync("document.getElementById('domains').querySelectorAll('svg.heat').length === 2");
        await _browser.UntilAsync("document.getElementById('state').textContent === 'live'");

        Assert.That(run.Signal(2).End(), Is.EqualTo(ExitCodes.Stopped), run.Error);
        Assert.That(File.ReadAllText(run.Folder.ReportFile), Does.Contain("\"status\":\"stopped\""), "the report of its end");
        Assert.That(run.Processes, Is.Empty);
    }

    [Test]
    public async Task Report_opens_from_disk_without_a_request_and_runs_nothing_of_the_run()
    {
        var run = Drawn("report");
        Report.Write([run.Folder], run.Folder.ReportFile);
        await _browser.GoAsync("file://" + run.Folder.ReportFile);
        await _browser.UntilAsync("document.getElementById('sample')?.querySelector('pre').textContent.includes('onerror')");

        await MustBeWhole();
        Assert.That((await _browser.RequestsAsync()).Where(address => address != "data:,"), Is.EqualTo(["file://" + run.Folder.ReportFile]));
    }

    [Test]
    public async Task Comparison_draws_every_run()
    {
        var runs = new[] { Drawn("one"), Drawn("two") };
        var output = Path.Combine(_folder, "compare.html");
        Report.Write([.. runs.Select(run => run.Folder)], output);
        await _browser.GoAsync("file://" + output);
        await _browser.UntilAsync("document.querySelectorAll('#loss figure:first-child .legend li').length === 4");

        await MustBeWhole();
    }

    [Test]
    public async Task Empty_run_and_run_of_one_row_are_shown_as_what_they_are()
    {
        var empty = new DrawnRun(Path.Combine(_folder, "empty"), status: "starting");
        Report.Write([empty.Folder], empty.Folder.ReportFile);
        await _browser.GoAsync("file://" + empty.Folder.ReportFile);
        await _browser.UntilAsync("document.querySelector('#loss .empty').checkVisibility()");
        await MustBeWhole();

        empty.AddStep(1);
        Report.Write([empty.Folder], empty.Folder.ReportFile);
        await _browser.GoAsync("file://" + empty.Folder.ReportFile);
        await _browser.UntilAsync("document.querySelectorAll('#loss circle.dot').length === 1");
        await MustBeWhole();
    }

    [Test]
    public async Task Live_page_follows_its_run_and_shows_logs_as_text()
    {
        var run = Drawn(Path.Combine("runs", "a run, with a long name and odd characters #1 & more"));
        File.AppendAllText(run.Folder.LogFile(0), Attack + "\n");
        await using var server = await DashboardServer.StartAsync(RunCatalog.At(Path.Combine(_folder, "runs")), IPAddress.Loopback, 0, "secret");
        await _browser.GoAsync($"http://127.0.0.1:{server.Port}/?token=secret");
        await _browser.UntilAsync("document.querySelector('td a.name') !== null");
        await MustBeWhole();
        Assert.That((await _browser.RunAsync("return location.search")).GetString(), Is.Empty, "the token has left the address");
        await _browser.RunAsync("document.querySelector('td a.name').click()");
        await _browser.UntilAsync($"document.querySelector('.tiles') && {Step} === 3 && document.getElementById('logs').querySelector('pre').textContent.includes('onerror')");
        run.AddStep(4);
        run.AddEvent("checkpoint", Attack);
        await _browser.UntilAsync($"{Step} === 4 && document.getElementById('events').textContent.includes('onerror')");
        await MustBeWhole();

        run.WriteRecord("a-run", "done");
        await _browser.UntilAsync("document.querySelector('h1 .badge').textContent === 'done'");
        Assert.That(await _browser.RequestsAsync(), Is.All.StartsWith($"http://127.0.0.1:{server.Port}/").Or.StartsWith("data:").Or.StartsWith("file:"));
    }

    [Test]
    public async Task Page_of_many_experts_stays_small_while_rows_arrive()
    {
        var run = new DrawnRun(Path.Combine(_folder, "large"));
        run.AddStep(1, layers: 61, experts: 256);
        Report.Write([run.Folder], run.Folder.ReportFile);
        await _browser.GoAsync("file://" + run.Folder.ReportFile);
        await _browser.UntilAsync("document.querySelector('#load svg.heat')");
        var page = await _browser.RunAsync("""
            const run = new Run(JSON.parse(document.getElementById("data").textContent)[0]);
            for (let step = 2; step <= 200; step++) run.take("experts", { step, tokens: Array.from({ length: 61 }, () => Array.from({ length: 256 }, (_, i) => i * step % 7)) });
            new RunPage(document.getElementById("page"), [run]);
            return {
              cells: run.load.columns.length * run.load.columns[0].length,
              newest: run.load.from.at(-1),
              drawn: document.getElementById("load").querySelectorAll("svg.heat").length,
              markup: document.getElementById("load").innerHTML.length,
            };
            """);

        Assert.That(page.GetProperty("cells").GetInt32(), Is.InRange(2 * 61 * 256, 150_000));
        Assert.That(page.GetProperty("newest").GetInt32(), Is.EqualTo(200), "the newest row is shown as it is");
        Assert.That(page.GetProperty("drawn").GetInt32(), Is.EqualTo(62));
        Assert.That(page.GetProperty("markup").GetInt32(), Is.LessThan(1_000_000));
    }

    [Test]
    public async Task Columns_of_rows_that_arrive_are_the_means_of_their_rows()
    {
        var run = Drawn("columns");
        Report.Write([run.Folder], run.Folder.ReportFile);
        await _browser.GoAsync("file://" + run.Folder.ReportFile);
        var columns = await _browser.RunAsync("""
            const table = { from: [], to: [], rows: [], columns: [] };
            for (let step = 1; step <= 1000; step++) takeColumn(table, step, [step, 1], 40);
            return table.columns.map((column, i) => [...column, table.from[i], table.to[i], table.rows[i]]);
            """);

        var rows = columns.EnumerateArray().Select(column => column.EnumerateArray().Select(value => value.GetDouble()).ToArray()).ToList();
        Assert.That(rows, Has.Count.InRange(8, 20));
        Assert.That(rows.Sum(row => row[4]), Is.EqualTo(1000));
        foreach (var (i, row) in rows.Index())
        {
            Assert.That(row[0], Is.EqualTo((row[2] + row[3]) / 2).Within(1e-9));
            Assert.That(row[1], Is.EqualTo(1).Within(1e-9));
            Assert.That(row[4], i < rows.Count - 2 ? Is.EqualTo(rows[0][4]) : Is.LessThanOrEqualTo(rows[0][4]));
        }
    }

    [Test]
    public async Task Cells_have_the_colours_of_the_legend_in_both_schemes_and_on_paper()
    {
        var run = Drawn("colours");
        Report.Write([run.Folder], run.Folder.ReportFile);
        await _browser.GoAsync("file://" + run.Folder.ReportFile);
        await _browser.UntilAsync("document.querySelector('#load svg.heat')");
        try
        {
            foreach (var (scheme, medium, none) in new[] { ("light", "screen", "rgb(91, 10, 60)"), ("dark", "screen", "rgb(255, 106, 201)"), ("dark", "print", "rgb(91, 10, 60)") })
            {
                await _browser.ShowAsync(scheme, medium);
                await _browser.UntilAsync($"getComputedStyle(document.querySelector('rect.heat0')).fill === '{none}'");
                await _browser.UntilAsync($"'rgb(' + document.querySelector('#load canvas').getContext('2d').getImageData(0, 0, 1, 1).data.slice(0, 3).join(', ') + ')' === '{none}'");
            }
        }
        finally
        {
            await _browser.ShowAsync("light", "screen");
        }
    }

    [Test]
    public async Task Page_is_usable_by_keyboard()
    {
        var run = Drawn("keys");
        Report.Write([run.Folder], run.Folder.ReportFile);
        await _browser.GoAsync("file://" + run.Folder.ReportFile);
        await _browser.UntilAsync("document.querySelector('#loss svg.chart path.line')");
        await _browser.RunAsync("""
            const press = (selector, key) => { const node = document.querySelector(selector); node.focus(); node.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })); };
            press("#loss svg.chart", "Home");
            press("#load svg.heat", "ArrowRight");
            press("#load svg.heat", "ArrowRight");
            """);

        Assert.That((await _browser.RunAsync("return document.querySelector('#load .readout').textContent")).GetString(), Is.EqualTo("layer 0, expert 1: 67 % of the mean"));
        Assert.That((await _browser.RunAsync("return document.querySelector('#loss svg.chart').getAttribute('aria-label')")).GetString(), Does.StartWith("Loss, nats per token. train: 5 at step 1, "));
        Assert.That(
            (await _browser.RunAsync("return [...document.querySelectorAll('input, select, button, svg[role=img]')].filter(node => node.checkVisibility() && !(node.labels?.length || node.textContent || node.ariaLabel)).length")).GetInt32(),
            Is.Zero, "controls without a name");
    }

    private const string Step = "parseInt(document.querySelector('.tiles dd')?.textContent ?? '0')";

    // No error in the console, nothing of the run's texts was run, and at the width of a small phone nothing sticks out.
    private async Task MustBeWhole()
    {
        await _browser.ResizeAsync(360, 740);
        Assert.That((await _browser.RunAsync("return document.documentElement.scrollWidth")).GetInt32(), Is.LessThanOrEqualTo(360), "sideways scrolling on a phone");
        await _browser.ResizeAsync(1280, 1000);
        Assert.That((await _browser.RunAsync("return window.attacked ?? 0")).GetInt32(), Is.Zero);
        Assert.That(await _browser.ErrorsAsync(), Is.Empty);
    }

    private DrawnRun Drawn(string name)
    {
        var run = new DrawnRun(Path.Combine(_folder, name), id: Path.GetFileName(name));
        for (var step = 1; step <= 3; step++)
        {
            run.AddStep(step);
        }

        run.AddEvaluation(3);
        run.AddEvent("warning", Attack);
        File.WriteAllText(run.Folder.SampleFile, Attack);
        return run;
    }
}
