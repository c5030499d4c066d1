using Moe.Data;
using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using Moe.Training.Sampling;
using NUnit.Framework;

namespace Moe.Tests.Sampling;

/// <summary>Texts, against those that the logits of every position of the window give.</summary>
public class TextGeneratorTests : ScopedTests
{
    private const int Sequence = 24, Tokens = 40;
    private const ulong Seed = 7;

    // Weights this large make likelihoods so unlike that the last bit of a product chooses no token. More ids than the tokenizer has.
    private static readonly TransformerOptions Options = new()
    {
        Layers = 2,
        Width = 32,
        Heads = 2,
        KeyValueHeads = 2,
        HeadWidth = 16,
        SequenceLength = Sequence,
        Vocabulary = ByteTokenizer.Vocabulary + 5,
        InitStd = 0.3,
        Moe = new() { Experts = 4, TopK = 2, ExpertWidth = 24 },
    };

    [Test]
    public void A_text_is_that_of_the_whole_windows_logits(
        [Values("", "The", "A prompt that is longer than the sequence, whose end counts.")] string prompt,
        [Values(0, 0.8, 2)] double temperature,
        [Values(DType.Float32, DType.Float64)] DType type)
    {
        using var model = new Transformer(Options, new LocalDispatcher(4), 3, type, type);
        Assert.That(Text(model, prompt, temperature), Is.EqualTo(Expected(model, prompt, temperature)));
    }

    [Test]
    public void Of_a_prompt_longer_than_the_sequence_the_end_counts([Values(0, 0.8)] double temperature)
    {
        using var model = new Transformer(Options, new LocalDispatcher(4), 3);
        var end = new string('x', Sequence - 1) + "y";
        Assert.That(Text(model, "another beginning" + end, temperature), Is.EqualTo(Text(model, end, temperature)));
        Assert.That(Text(model, end + "z", temperature), Is.Not.EqualTo(Text(model, end, temperature)));
    }

    [Test]
    public void Another_seed_draws_another_text()
    {
        using var model = new Transformer(Options, new LocalDispatcher(4), 3);
        Assert.That(string.Concat(new TextGenerator(model, Seed + 1).Continue("The", Tokens, 1)), Is.Not.EqualTo(Text(model, "The", 1)));
    }

    private static string Text(Transformer model, string prompt, double temperature) =>
        string.Concat(new TextGenerator(model, Seed).Continue(prompt, Tokens, temperature));

    private static string Expected(Transformer model, string prompt, double temperature)
    {
        var draws = new RandomStream(Seed, "sample");
        var context = ByteTokenizer.Encode(prompt.Length == 0 ? "\n" : prompt).ToList();
        var start = context.Count;
        for (var i = 0; i < Tokens; i++)
        {
            using var mode = Autograd.NoGrad();
            using var scope = new TensorScope();
            var window = context.TakeLast(Sequence).ToArray();
            var all = model.Logits(Tensor.From(window, 1, window.Length)).To(DType.Float64).ToArray<double>();
            var logits = all[^Options.Vocabulary..][..ByteTokenizer.Vocabulary];
            context.Add(temperature == 0 ? Array.IndexOf(logits, logits.Max()) : Drawn(logits, i));
        }

        return ByteTokenizer.Decode(context[start..].ToArray());

        // The first token whose sum of likelihoods, with all before it, is above a uniform number.
        long Drawn(double[] logits, int draw)
        {
            var uniform = new double[1];
            draws.FillUniform(uniform, draw);
            var weights = logits.Select(logit => Math.Exp((logit - logits.Max()) / temperature)).ToArray();
            var at = uniform[0] * weights.Sum();
            var token = 0;
            for (var sum = weights[0]; sum <= at; sum += weights[token])
            {
                token++;
            }

            return token;
        }
    }
}
