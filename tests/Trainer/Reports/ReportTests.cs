using System.Text.Json;
using System.Text.RegularExpressions;
using Moe.Training.Hosting;
using Moe.Training.Reports;
using NUnit.Framework;

namespace Moe.Tests.Reports;

public class ReportTests
{
    private const string Attack = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&'\"";

    private string _folder = "";

    [SetUp]
    public void CreateFolder() => _folder = Directory.CreateTempSubdirectory("moe-report-").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public void Report_holds_all_that_the_folder_has()
    {
        var run = Drawn();
        var data = Data(Write(run.Folder))[0];

        Assert.That(data.GetProperty("id").GetString(), Is.EqualTo("a-run"));
        Assert.That(Numbers(data.GetProperty("series").GetProperty("train/loss").GetProperty("v")), Is.EqualTo([5, 2.5, 1.66667]));
        Assert.That(data.GetProperty("load").GetProperty("layers").GetInt32(), Is.EqualTo(2));
        Assert.That(Numbers(data.GetProperty("load").GetProperty("columns")[0]), Is.EqualTo([0, 67, 133, 200, 0, 67, 133, 200]), "percent of the layer's mean");
        Assert.That(Numbers(data.GetProperty("ranks").GetProperty("perf/busy_ms").GetProperty("columns")[2]), Is.EqualTo([20, 21, 22, 23]));
        var domains = data.GetProperty("domains")[0].GetProperty("domains");
        Assert.That(domains.EnumerateArray().Select(domain => domain.GetProperty("name").GetString()), Is.EqualTo(["verse", "code"]));
        Assert.That(domains[1].TryGetProperty("loss", out _), Is.False, "a loss that is no number");
        Assert.That(data.GetProperty("config").GetProperty("train.steps").GetProperty("origin").GetString(), Is.EqualTo("--set"));
        Assert.That(data.GetProperty("events").GetArrayLength(), Is.EqualTo(1));
        Assert.That(data.GetProperty("sample").GetString(), Is.EqualTo("To be"));
    }

    [Test]
    public void What_comes_out_of_a_run_stands_in_the_page_as_text_alone()
    {
        var run = new DrawnRun(Path.Combine(_folder, "run"), id: "<b>");
        run.AddStep(1);
        run.AddEvent("warning", Attack);
        File.WriteAllText(run.Folder.SampleFile, Attack);
        new RankFailure(0, 3, 3, Attack).Write(run.Folder.ErrorFile(0));
        var page = Write(run.Folder);

        Assert.That(Regex.Count(page, "<script"), Is.EqualTo(2), "the data and the script");
        Assert.That(page, Does.Not.Contain("alert(1)</script>").And.Not.Contain("<img"));
        Assert.That(page, Does.Contain("<title>&lt;b&gt;</title>"));
        Assert.That(Data(page)[0].GetProperty("sample").GetString(), Is.EqualTo(Attack));
        Assert.That(Data(page)[0].GetProperty("failures")[0].GetProperty("what").GetString(), Is.EqualTo(Attack));
    }

    [Test]
    public void Page_names_no_other_place_and_allows_none()
    {
        var page = Write(Drawn().Folder);

        Assert.That(page, Does.Contain("default-src 'none'; script-src 'sha256-"));
        Assert.That(Regex.Matches(page, "https?://[^\"' ]+").Select(match => match.Value).Distinct(), Is.EqualTo(["http://www.w3.org/2000/svg"]), "a name, not an address");
        Assert.That(page, Does.Not.Contain("@import").And.Not.Contain("url("));
    }

    [Test]
    public void Damaged_and_missing_files_leave_the_rest()
    {
        var run = Drawn();
        File.AppendAllText(run.Folder.MetricsFile, "{\"step\":4,\"train/lo\nnull\n[]\n{\"step\":\"x\"}\n{\"train/loss\":3}\n{\"step\":5,\"train/loss\":1}\n{\"step\":6,");
        File.WriteAllText(run.Folder.ExpertsFile, "{\"step\":1,\"tokens\":7}\n{\"step\":1,\"tokens\":[[1],[1,2]]}\n");
        File.WriteAllText(run.Folder.ConfigOriginFile, "{");
        File.Delete(run.Folder.RanksFile);
        File.Delete(run.Folder.RunFile);
        var data = Data(Write(run.Folder))[0];

        Assert.That(data.GetProperty("id").GetString(), Is.EqualTo("run"), "the folder's name");
        Assert.That(Numbers(data.GetProperty("series").GetProperty("train/loss").GetProperty("s")), Is.EqualTo([1, 2, 3, 5]));
        Assert.That(data.GetProperty("load").GetProperty("columns").GetArrayLength(), Is.Zero);
    }

    [Test]
    public void Run_of_any_length_makes_a_small_page()
    {
        var run = new DrawnRun(Path.Combine(_folder, "run"), ranks: 64);
        var tail = string.Concat(Enumerable.Range(0, 12).Select(i => $",\"perf/key_{i}\":0.12345678901{i}"));
        File.WriteAllLines(run.Folder.MetricsFile, Enumerable.Range(1, 100_000).Select(step => $"{{\"step\":{step},\"train/loss\":{step % 97}{tail}}}"));
        for (var step = 1; step <= 1000; step++)
        {
            run.AddStep(100_000 + step, layers: 8, experts: 64);
        }

        Assert.That(Write(run.Folder), Has.Length.LessThan(3 << 20));
    }

    [Test]
    public void Several_runs_stand_in_one_page_and_too_many_are_refused()
    {
        var folders = Enumerable.Range(0, 7).Select(i => new DrawnRun(Path.Combine(_folder, $"run{i}"), id: $"run{i}").Folder).ToList();
        var output = Path.Combine(_folder, "compare.html");
        Report.Write(folders[..3], output);

        Assert.That(Data(File.ReadAllText(output)).Select(run => run.GetProperty("id").GetString()), Is.EqualTo(["run0", "run1", "run2"]));
        Assert.That(() => Report.Write(folders, output), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void Report_that_cannot_be_written_is_a_warning()
    {
        var run = Drawn();
        Directory.CreateDirectory(run.Folder.ReportFile + ".tmp");
        var warnings = new List<string>();
        Report.WriteAtEnd(run.Folder, "done", warnings.Add);

        Assert.That(warnings, Has.One.StartsWith("the report could not be written: "));
        Assert.That(File.Exists(run.Folder.ReportFile), Is.False);
    }

    [TestCase("1-2-3-4-5-6", "1-2-3-4-5-6")]
    [TestCase("0-0-0-0-0-0", "0-0-0-0-0-0")]
    [TestCase("1-2-3-4-5", null)]
    [TestCase("1-2-3-4-5-6-7", null)]
    [TestCase("1-2-3--4-5", null)]
    [TestCase("1-2-3-4-5-99999999999999999999", null)]
    [TestCase("a", null)]
    [TestCase("", null)]
    [TestCase(null, null)]
    public void Cursor_is_read_back_or_refused(string? text, string? read) => Assert.That(RunCursor.Parse(text)?.ToString(), Is.EqualTo(read));

    private DrawnRun Drawn()
    {
        var run = new DrawnRun(Path.Combine(_folder, "run"));
        run.AddStep(1);
        run.AddStep(2);
        run.AddEvaluation(2);
        run.AddStep(3);
        run.AddEvent("start", "train on 4 rank(s)");
        File.WriteAllText(run.Folder.SampleFile, "To be");
        return run;
    }

    private static string Write(RunFolder folder)
    {
        Report.Write([folder], folder.ReportFile);
        return File.ReadAllText(folder.ReportFile);
    }

    private static JsonElement[] Data(string page) =>
        [.. JsonDocument.Parse(Regex.Match(page, "<script type=\"application/json\" id=\"data\">(.*?)</script>", RegexOptions.Singleline).Groups[1].Value).RootElement.EnumerateArray()];

    private static double[] Numbers(JsonElement array) => [.. array.EnumerateArray().Select(value => value.GetDouble())];
}
