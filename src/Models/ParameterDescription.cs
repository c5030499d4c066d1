using Moe.Torch;

namespace Moe.Models;

/// <summary>A logical parameter of the unsplit model, known from the options alone: nothing is allocated.</summary>
/// <param name="Key">The same on every mesh: <c>layers.3.moe.experts.7.gate</c>.</param>
/// <param name="Kind">What it is to the model.</param>
/// <param name="Shape">[R, C] or [C].</param>
public sealed record ParameterDescription(string Key, ParameterKind Kind, params IReadOnlyList<long> Shape)
{
    /// <summary>Whether it has one dimension: a norm's scale.</summary>
    public bool IsVector => Shape.Count == 1;

    /// <summary>Every parameter of a <see cref="Transformer"/>, each once, layer by layer.</summary>
    /// <param name="options">The model's shape.</param>
    public static IEnumerable<ParameterDescription> Of(TransformerOptions options)
    {
        yield return new("embedding", ParameterKind.Embedding, options.Vocabulary, options.Width);
        for (var layer = 0; layer < options.Layers; layer++)
        {
            foreach (var parameter in Layer(options, layer))
            {
                yield return parameter;
            }
        }

        yield return new("final_norm", ParameterKind.Norm, options.Width);
        if (!options.TieEmbeddings)
        {
            yield return new("head", ParameterKind.Head, options.Vocabulary, options.Width);
        }
    }

    private static IEnumerable<ParameterDescription> Layer(TransformerOptions options, int index)
    {
        var name = FormattableString.Invariant($"layers.{index}");
        string[] norms = options.Norm == NormPlacement.Peri
            ? ["attention_norm", "feed_forward_norm", "attention_output_norm", "feed_forward_output_norm"]
            : ["attention_norm", "feed_forward_norm"];
        return
        [
            .. norms.Select(norm => new ParameterDescription($"{name}.{norm}", ParameterKind.Norm, options.Width)),
            .. Attention(options, $"{name}.attention"),
            .. index < options.DenseLayers
                ? SwiGlu(options, $"{name}.feed_forward", ParameterKind.Matrix, options.DenseWidth)
                : Experts(options, $"{name}.moe"),
        ];
    }

    private static IEnumerable<ParameterDescription> Attention(TransformerOptions options, string name)
    {
        var (queries, shared) = ((long)options.Heads * options.HeadWidth, (long)options.KeyValueHeads * options.HeadWidth);
        yield return new($"{name}.query", ParameterKind.Matrix, queries, options.Width);
        yield return new($"{name}.key", ParameterKind.Matrix, shared, options.Width);
        yield return new($"{name}.value", ParameterKind.Matrix, shared, options.Width);
        yield return new($"{name}.output", ParameterKind.Matrix, options.Width, queries);
        if (options.QueryKeyNorm)
        {
            yield return new($"{name}.query_norm", ParameterKind.Norm, options.HeadWidth);
            yield return new($"{name}.key_norm", ParameterKind.Norm, options.HeadWidth);
        }
    }

    private static IEnumerable<ParameterDescription> Experts(TransformerOptions options, string name)
    {
        var moe = options.Moe;
        IEnumerable<ParameterDescription> shared = moe.SharedExperts == 0
            ? []
            : SwiGlu(options, $"{name}.shared", ParameterKind.Matrix, (long)moe.SharedExperts * moe.ExpertWidth);
        return Enumerable.Range(0, moe.Experts)
            .SelectMany(expert => SwiGlu(options, FormattableString.Invariant($"{name}.experts.{expert}"), ParameterKind.Expert, moe.ExpertWidth))
            .Prepend(new ParameterDescription($"{name}.router", ParameterKind.Router, moe.Experts, options.Width))
            .Concat(shared);
    }

    private static IEnumerable<ParameterDescription> SwiGlu(TransformerOptions options, string name, ParameterKind kind, long width)
    {
        yield return new($"{name}.gate", kind, width, options.Width);
        yield return new($"{name}.up", kind, width, options.Width);
        yield return new($"{name}.down", kind, options.Width, width);
    }
}
