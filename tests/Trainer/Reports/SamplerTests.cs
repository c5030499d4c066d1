using Moe.Training.Reports;
using NUnit.Framework;

namespace Moe.Tests.Reports;

public class SamplerTests
{
    [TestCase(1)]
    [TestCase(2)]
    [TestCase(999)]
    [TestCase(1_000_000)]
    public void Long_curve_keeps_its_peaks_its_order_and_its_last_value_in_few_points(int rows)
    {
        var sampler = new SeriesSampler(places: 100);
        var random = new Random(7);
        var values = Enumerable.Range(1, rows).Select(step => random.NextDouble() + (step == (rows / 2) + 1 ? 50 : 0) - (step == (rows / 3) + 1 ? 50 : 0)).ToArray();
        foreach (var (i, value) in values.Index())
        {
            sampler.Add(i + 1, value);
        }

        var points = sampler.Points();
        Assert.That(points, Has.Count.InRange(Math.Min(rows, 200), 401));
        Assert.That(points.Select(point => point.Step), Is.Ordered.And.Unique);
        Assert.That(points.Select(point => point.Value).Max(), Is.EqualTo(values.Max()));
        Assert.That(points.Select(point => point.Value).Min(), Is.EqualTo(values.Min()));
        Assert.That(points[^1], Is.EqualTo(new SeriesSampler.Point(rows, values[^1])));
        Assert.That(points, Is.All.Matches<SeriesSampler.Point>(point => values[point.Step - 1] == point.Value), "every point is a row");
    }

    [Test]
    public void What_is_no_number_leaves_no_point()
    {
        var sampler = new SeriesSampler();
        sampler.Add(1, double.NaN);
        sampler.Add(2, double.PositiveInfinity);

        Assert.That(sampler.Points(), Is.Empty);
    }

    [Test]
    public void Columns_of_many_tables_are_the_means_of_their_rows()
    {
        const int Rows = 10_000;
        var sampler = new TableSampler(cells: 40, most: 160);
        for (var step = 1; step <= Rows; step++)
        {
            sampler.Add(step, [step, 1.0]);
        }

        Assert.That(sampler.Columns, Has.Count.InRange(8, 20));
        Assert.That(sampler.Columns.Sum(column => column.Rows), Is.EqualTo(Rows));
        Assert.That(sampler.Columns[0].FirstStep, Is.EqualTo(1));
        Assert.That(sampler.Columns[^1].LastStep, Is.EqualTo(Rows));
        foreach (var column in sampler.Columns)
        {
            Assert.That(column.Mean, Is.EqualTo([(column.FirstStep + column.LastStep) / 2.0, 1]).Within(1e-9));
        }
    }

    [Test]
    public void Rows_of_other_ranks_begin_anew()
    {
        var sampler = new TableSampler();
        sampler.Add(1, [1, 2, 3, 4]);
        sampler.Add(2, [5, 6]);

        Assert.That(sampler.Columns, Has.Count.EqualTo(1));
        Assert.That(sampler.Columns[0].Mean, Is.EqualTo([5, 6]));
    }
}
