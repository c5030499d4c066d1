using Moe.Torch;

namespace Moe.Models;

/// <summary>Projections around <see cref="CausalAttention"/>, and the optional norm of each query and key head.</summary>
internal sealed class SelfAttention
{
    private readonly TransformerOptions _options;
    private readonly RotaryTable _rotary;
    private readonly Parameter _projection;
    private readonly Parameter _output;
    private readonly Parameter? _queryNorm;
    private readonly Parameter? _keyNorm;

    internal SelfAttention(string name, TransformerOptions options, RotaryTable rotary, ParameterInitializer initializer)
    {
        (_options, _rotary) = (options, rotary);
        var (queries, shared) = ((long)options.Heads * options.HeadWidth, (long)options.KeyValueHeads * options.HeadWidth);
        _projection = initializer.Normal($"{name}.qkv", [queries + 2 * shared, options.Width], options.InitStd, parts:
        [
            new("query", 0, queries), new("key", queries, shared), new("value", queries + shared, shared),
        ]);
        _output = initializer.Normal($"{name}.output", [options.Width, queries], options.ResidualStd);
        if (options.QueryKeyNorm)
        {
            _queryNorm = initializer.Norm($"{name}.query_norm", options.HeadWidth);
            _keyNorm = initializer.Norm($"{name}.key_norm", options.HeadWidth);
        }
    }

    /// <summary>[B S, D] -> [B S, D], with <paramref name="length"/> = S.</summary>
    internal Tensor Forward(Tensor x, long length)
    {
        using var span = Spans.Open("attention");
        var projected = x.Project(_projection);
        if (_queryNorm is not null)
        {
            projected = NormHeads(projected);
        }

        var mixed = CausalAttention.Apply(projected, _rotary, _options.Heads, _options.KeyValueHeads, (int)length);
        return mixed.Project(_output);
    }

    private Tensor NormHeads(Tensor projected)
    {
        var (heads, shared) = (_options.Heads, _options.KeyValueHeads);
        var parts = projected.View(projected.Size(0), heads + 2 * shared, _options.HeadWidth).Split([heads, shared, shared], 1);
        parts[0] = RmsNorm.Apply(parts[0].Contiguous(), _queryNorm!.Value, _options.NormEpsilon);
        parts[1] = RmsNorm.Apply(parts[1].Contiguous(), _keyNorm!.Value, _options.NormEpsilon);
        return Shaping.Concatenate(parts, 1).View(projected.Shape);
    }
}
