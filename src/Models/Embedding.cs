using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>The rows of a table that tokens stand for. Shapes: T tokens of a vocabulary of V, width D; table [V, D], tokens [T] int64, rows [T, D].</summary>
/// <remarks>Backward adds a token's rows in the order of its places: the table's gradient has the same bits each time.</remarks>
public sealed class Embedding : Function
{
    private readonly Tensor _given;
    private Tensor? _tokens;
    private long _vocabulary;

    private Embedding(Tensor tokens) => _given = tokens;

    /// <summary>table[tokens], in the table's type.</summary>
    /// <param name="table">[V, D].</param>
    /// <param name="tokens">[T], 0 to V - 1.</param>
    public static Tensor Apply(Tensor table, Tensor tokens) => new Embedding(tokens).Apply(table)[0];

    /// <summary>The same by recorded operators: the oracle of the tests.</summary>
    public static Tensor Reference(Tensor table, Tensor tokens) => table.Embedding(tokens);

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        (_tokens, _vocabulary) = (Save(_given), inputs[0].Size(0));
        return [inputs[0].Embedding(_given)];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients) =>
        [EmbeddingKernel.Backward(outputGradients[0]!.Contiguous(), _tokens!.Contiguous(), _vocabulary)];
}
