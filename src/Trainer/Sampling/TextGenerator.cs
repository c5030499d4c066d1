using Moe.Data;
using Moe.Models;
using Moe.Torch;

namespace Moe.Training.Sampling;

/// <summary>Continues a text with a trained model, token by token.</summary>
/// <param name="model">All experts in this process.</param>
/// <param name="seed">Of the draws: the same seed, prompt and temperature give the same text.</param>
public sealed class TextGenerator(Transformer model, ulong seed)
{
    private readonly RandomStream _draws = new(seed, "sample");

    /// <summary>Draws tokens one after another, each from the distribution after all before it.</summary>
    /// <param name="prompt">The text to continue; its end counts where it is longer than the model's sequence. Empty stands for a line end.</param>
    /// <param name="tokens">How many to draw.</param>
    /// <param name="temperature">Logits are divided by it; 0 takes the likeliest token.</param>
    /// <returns>Pieces of text as soon as their characters are complete.</returns>
    public IEnumerable<string> Continue(string prompt, int tokens, double temperature)
    {
        var decoder = new ByteStreamDecoder();
        var context = new List<long>(ByteTokenizer.Encode(prompt.Length == 0 ? "\n" : prompt));
        for (var i = 0; i < tokens; i++)
        {
            var token = Next(context, temperature, i);
            context.Add(token);
            yield return decoder.Push(token);
        }

        yield return decoder.Flush();
    }

    private long Next(List<long> context, double temperature, int draw)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        var window = context[Math.Max(0, context.Count - model.Options.SequenceLength)..].ToArray();
        var logits = model.NextLogits(Tensor.From(window, 1, window.Length).To(model.Device)); // [1, V]

        // A vocabulary may be larger than the tokenizer's; ids beyond it stand for no text.
        var last = logits.Select(0, 0).Narrow(0, 0, ByteTokenizer.Vocabulary).To(DType.Float64).ToArray<double>();
        return temperature == 0 ? Array.IndexOf(last, last.Max()) : Draw(last, temperature, draw);
    }

    private int Draw(double[] logits, double temperature, int draw)
    {
        var largest = logits.Max();
        var weights = Array.ConvertAll(logits, logit => Math.Exp((logit - largest) / temperature));
        var uniform = new double[1];
        _draws.FillUniform(uniform, draw);
        var left = uniform[0] * weights.Sum();
        for (var token = 0; token < weights.Length; token++)
        {
            left -= weights[token];
            if (left < 0)
            {
                return token;
            }
        }

        return Array.FindLastIndex(weights, weight => weight > 0); // the sum's rounding left a sliver beyond the last
    }
}
