using Moe.Training;
using NUnit.Framework;

namespace Moe.Tests.Training;

public class MetricsFileTests
{
    private const string Rows = "{\"step\":1,\"train/loss\":5.5}\n{\"step\":2,\"train/loss\":5}\n{\"step\":2,\"eval/loss\":4.75}\n{\"step\":3,\"train/loss\":4.5}\n";

    private string _path = "";

    [SetUp]
    public void ChoosePath() => _path = Path.Combine(Path.GetTempPath(), $"metrics-{Guid.NewGuid():N}.jsonl");

    [TearDown]
    public void Delete() => File.Delete(_path);

    [Test]
    public void Rows_are_lines_of_json_that_others_read_at_once()
    {
        using var metrics = new MetricsFile(_path, 0);
        metrics.Append(new Dictionary<string, double> { ["step"] = 1, ["train/loss"] = 0.1, ["perf/tokens_per_s"] = 1e6 });
        metrics.Append(new Dictionary<string, double> { ["step"] = 2, ["train/loss"] = double.NaN, ["train/grad_norm"] = double.PositiveInfinity });

        using var reader = new StreamReader(new FileStream(_path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite));
        Assert.That(reader.ReadToEnd(), Is.EqualTo(
            "{\"step\":1,\"train/loss\":0.1,\"perf/tokens_per_s\":1000000}\n{\"step\":2,\"train/loss\":null,\"train/grad_norm\":null}\n"));
    }

    [Test]
    public void Numbers_come_back_to_the_last_bit()
    {
        var value = Random.Shared.NextDouble() / 3;
        using (var metrics = new MetricsFile(_path, 0))
        {
            metrics.Append(new Dictionary<string, double> { ["train/loss"] = value });
        }

        using var row = System.Text.Json.JsonDocument.Parse(File.ReadAllText(_path));
        Assert.That(row.RootElement.GetProperty("train/loss").GetDouble(), Is.EqualTo(value));
    }

    [TestCase(0, 0)]
    [TestCase(1, 1)]
    [TestCase(2, 3)]
    [TestCase(3, 4)]
    [TestCase(9, 4)]
    public void Rows_after_the_resumed_step_are_gone(long lastStep, int rowsLeft)
    {
        File.WriteAllText(_path, Rows);
        using (var metrics = new MetricsFile(_path, lastStep))
        {
            metrics.Append(new Dictionary<string, double> { ["step"] = 10 });
        }

        Assert.That(File.ReadAllText(_path), Is.EqualTo(string.Concat(Rows.Split('\n')[..rowsLeft].Select(row => row + "\n")) + "{\"step\":10}\n"));
    }

    [Test]
    public void Lines_longer_than_any_buffer_are_whole_and_cut_at_the_step()
    {
        var line = "{\"step\":" + "{0},\"tokens\":[" + string.Join(',', Enumerable.Repeat("123456", 40_000)) + "]}\n";
        File.WriteAllText(_path, line.Replace("{0}", "1") + line.Replace("{0}", "2") + line.Replace("{0}", "3"));
        using (var file = new StepFile(_path, 2))
        {
            file.Append(json => json.WriteNumber("step", 3));
        }

        Assert.That(File.ReadAllText(_path), Is.EqualTo(line.Replace("{0}", "1") + line.Replace("{0}", "2") + "{\"step\":3}\n"));
    }

    [TestCase("{\"step\":4,\"train/lo")]
    [TestCase("{\"step\":4}")]
    [TestCase("{\"step\":4,\"trai\n")]
    [TestCase("\0\0\0\0\n\0\0")]
    [TestCase("\n")]
    public void Half_a_line_of_a_killed_run_is_gone(string half)
    {
        File.WriteAllText(_path, Rows + half);
        using (var metrics = new MetricsFile(_path, 9))
        {
            metrics.Append(new Dictionary<string, double> { ["step"] = 4 });
        }

        Assert.That(File.ReadAllText(_path), Is.EqualTo(Rows + "{\"step\":4}\n"));
    }

    [Test]
    public void Rows_behind_a_damaged_one_stay()
    {
        const string Damaged = "{\"step\":1}\n{\"step\":2,\"trai\n{\"step\":3}\n";
        File.WriteAllText(_path, Damaged + "{\"step\":4}\nnothing\n{\"step\":5}\n");
        using (var file = new StepFile(_path, 3))
        {
            file.Append(json => json.WriteNumber("step", 4));
        }

        Assert.That(File.ReadAllText(_path), Is.EqualTo(Damaged + "{\"step\":4}\n"));
    }
}
