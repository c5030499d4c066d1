using Moe.Launch.Runs;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>The comparison itself: it must fail where a file says what we don't do.</summary>
public class GoldenFileTests
{
    private const string Plain = """
        {"source": "torch/optim/sgd.py", "dtype": "float64", "hyper": {"lr": 0.5HYPER}, "params": [{"shape": [2], "initial": [1, 2]}],
         "grads": [[[2, 4]]], "expected": [[[0, SECOND]]]}
        """;

    [Test]
    public void A_run_with_the_same_numbers_passes() => Assert.That(() => Replay("", "0"), Throws.Nothing);

    [Test]
    public void A_setting_that_is_not_understood_fails_by_name() =>
        Assert.That(() => Replay(""", "sideways": true""", "0"), Throws.TypeOf<AssertionException>().With.Message.Contains("sideways"));

    [Test]
    public void A_switch_without_counterpart_passes_off_and_fails_on()
    {
        static HyperReader Lamb(bool caution) => GoldenFile.Parse("lamb", $$"""{"hyper": {"caution": {{(caution ? "true" : "false")}} } }""").ReadHyper();
        var off = Lamb(caution: false);
        off.AssertOff("caution", "amsgrad");
        Assert.That(off.AssertAllConsumed, Throws.Nothing);
        Assert.That(() => Lamb(caution: true).AssertOff("caution"), Throws.TypeOf<AssertionException>().With.Message.Contains("caution"));
    }

    [Test]
    public void A_number_that_differs_by_a_billionth_fails() =>
        Assert.That(() => Replay("", "1e-9"), Throws.TypeOf<AssertionException>().With.Message.Contains("step 0, parameter p0"));

    [Test]
    public void An_unknown_source_is_understood_by_no_replay() =>
        Assert.That(GoldenReplays.All.Where(replay => replay.Understands(File("", "0", "elsewhere/sideways.py"))), Is.Empty);

    [Test]
    public void A_hint_of_the_file_replaces_the_tolerance_of_its_type()
    {
        var file = GoldenFile.Parse("hinted", """{"dtype": "float32", "tolerance_hint": "rtol 2e-5"}""");
        Assert.That(GoldenTolerance.Of(file, 1e-12), Is.EqualTo(2e-5));
        Assert.That(GoldenTolerance.Of(GoldenFile.Parse("bare", """{"dtype": "float32"}"""), 1e-12), Is.EqualTo(1e-6));
    }

    [Test]
    public void A_relative_folder_is_found_where_it_was_typed_or_from_the_root_of_the_sources()
    {
        const string Inside = "Optimizers/Golden/files";
        Assert.That(GoldenFolder.Find(Inside, AppContext.BaseDirectory), Is.EqualTo(Path.Combine(AppContext.BaseDirectory, Inside)));
        Assert.That(GoldenFolder.Find("tests/" + Inside, shell: "/"), Is.SamePath(Path.Combine(Repository.Find(AppContext.BaseDirectory)!, "tests", Inside)));
        Assert.That(GoldenFolder.Find("elsewhere", shell: "/"), Is.EqualTo("/elsewhere"));
    }

    [Test]
    public void Parameters_are_read_from_a_list_and_from_a_map()
    {
        static GoldenFile With(string parameters) => GoldenFile.Parse("parameters", $$"""{"dtype": "float64", "params": {{parameters}}}""");
        var listed = With("""[{"shape": [1, 2], "initial": [[3, 4]]}]""").Parameters.Single();
        var named = With("""{"weight": {"shape": [1, 2], "initial": [3, 4]}}""").Parameters.Single();
        Assert.That((listed.Name, named.Name), Is.EqualTo(("p0", "weight")));
        Assert.That(listed.Initial.Concat(named.Initial), Is.EqualTo(new double[] { 3, 4, 3, 4 }));
    }

    [Test]
    public void Gradients_of_a_quadratic_follow_the_weights()
    {
        using var scope = new TensorScope();
        var file = GoldenFile.Parse("quadratic", """
            {"dtype": "float64", "params": [{"shape": [2], "initial": [1, 2]}],
             "quadratic": {"formula": "grad = h * (w - target), elementwise", "h": [[3, 5]], "target": [[0, 1]]}}
            """);
        var parameters = file.LogicalParameters();
        parameters[0].Value.CopyFrom_(Tensor.From(new double[] { 2, -1 }));
        file.WriteGradients(7, parameters);
        Assert.That(parameters[0].Gradient.ToArray<double>(), Is.EqualTo(new double[] { 6, -10 }));
    }

    private static GoldenFile File(string hyper, string second, string source = "torch/optim/sgd.py") => GoldenFile.Parse("inline", Plain
        .Replace("HYPER", hyper, StringComparison.Ordinal)
        .Replace("SECOND", second, StringComparison.Ordinal)
        .Replace("torch/optim/sgd.py", source, StringComparison.Ordinal));

    private static void Replay(string hyper, string second) => new SgdReplay().Replay(File(hyper, second));
}
