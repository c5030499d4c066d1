using FsCheck;
using Moe.Data;
using NUnit.Framework;
using static Moe.Tests.Data.Refusal;
using PropertyAttribute = FsCheck.NUnit.PropertyAttribute;

namespace Moe.Tests.Data;

public sealed class EvaluationWindowsTests
{
    private TextFolder _texts = null!;
    private TokenFolder _tokens = null!;

    [OneTimeSetUp]
    public void Create()
    {
        _texts = new TextFolder();
        _tokens = _texts.Tokens("tokens", 1000);
    }

    [OneTimeTearDown]
    public void Delete()
    {
        _tokens.Dispose();
        _texts.Dispose();
    }

    [Property]
    public void Every_target_of_the_split_is_predicted_once_and_in_order(PositiveInt length, byte tenths)
    {
        var (sequenceLength, fraction) = (length.Get % 99 + 1, (tenths % 9 + 1) / 10.0);
        var windows = new EvaluationWindows(_tokens, sequenceLength, fraction);
        var bytes = File.ReadAllBytes(Path.Combine(_tokens.Location, "tokens.bin"));
        var heldOut = bytes[^(int)(fraction * 1000)..].Select(b => (long)b).ToArray();

        var targets = new List<long>();
        var window = new long[sequenceLength + 1];
        for (var i = 0L; i < windows.Count; i++)
        {
            windows.Read(i, window);
            Assert.That(window[0], Is.EqualTo(i == 0 ? heldOut[0] : targets[^1]), "the first input is the token before the first target");
            targets.AddRange(window[1..]);
        }

        Assert.That(targets, Is.EqualTo(heldOut[1..(targets.Count + 1)]));
        Assert.That(heldOut.Length - 1 - targets.Count, Is.InRange(0, sequenceLength - 1), "targets left out");
    }

    [TestCase(100, 0.29, 71, 29)] // 28.999... in binary
    [TestCase(9, 0.1, 9, 0)]
    [TestCase(10, 0.1, 9, 1)]
    [TestCase(10, 0.0, 10, 0)]
    [TestCase(1_000_000_000_000_000_003, 0.5, 500_000_000_000_000_002, 500_000_000_000_000_001)]
    public void The_held_out_count_is_the_fraction_rounded_down(long tokens, double fraction, long training, long evaluation) =>
        Assert.That(TokenSplit.Of(tokens, fraction), Is.EqualTo(new TokenSplit(training, evaluation)));

    [TestCase(-0.1)]
    [TestCase(1)]
    [TestCase(double.NaN)]
    public void A_fraction_outside_zero_to_one_is_refused(double fraction) =>
        Assert.That(() => TokenSplit.Of(10, fraction), Throws.TypeOf<ArgumentOutOfRangeException>());

    [TestCase(100, 0.1)]
    [TestCase(1, 0.0)]
    public void A_split_shorter_than_a_window_is_refused_with_both_lengths(int sequenceLength, double fraction) =>
        Assert.That(
            () => new EvaluationWindows(_tokens, sequenceLength, fraction),
            Refuses(_tokens.Location, $"{1000 * fraction:N0} of 1,000", $"needs {sequenceLength + 1}", "data.eval_fraction"));

    [TestCase(-1)]
    [TestCase(9)]
    public void A_window_that_is_not_there_is_refused(long window)
    {
        var windows = new EvaluationWindows(_tokens, 11, 0.1); // 99 targets
        Assert.That(windows.Count, Is.EqualTo(9));
        Assert.That(() => windows.Start(window), Throws.TypeOf<ArgumentOutOfRangeException>());
    }
}
