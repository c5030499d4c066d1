namespace Moe.Models;

/// <summary>Where RMSNorm stands in a layer.</summary>
public enum NormPlacement
{
    /// <summary>x + f(norm(x)).</summary>
    Pre,

    /// <summary>x + norm(f(norm(x))): Kim et al. 2025, https://arxiv.org/abs/2502.02732.</summary>
    Peri,
}

/// <summary>Shape and initialisation of a <see cref="Transformer"/>.</summary>
public sealed record TransformerOptions
{
    /// <summary>Layers; each is attention and a feed-forward part.</summary>
    public required int Layers { get; init; }

    /// <summary>Numbers in a token's hidden state (D).</summary>
    public required int Width { get; init; }

    /// <summary>Query heads.</summary>
    public required int Heads { get; init; }

    /// <summary>Key and value heads; divides <see cref="Heads"/>.</summary>
    public required int KeyValueHeads { get; init; }

    /// <summary>Numbers in one head; even.</summary>
    public required int HeadWidth { get; init; }

    /// <summary>Longest sequence, in tokens.</summary>
    public required int SequenceLength { get; init; }

    /// <summary>Token ids (V).</summary>
    public required int Vocabulary { get; init; }

    /// <summary>Where RMSNorm stands.</summary>
    public NormPlacement Norm { get; init; } = NormPlacement.Pre;

    /// <summary>Added to the mean square inside every RMSNorm.</summary>
    public double NormEpsilon { get; init; } = 1e-5;

    /// <summary>Whether each head's query and key pass an RMSNorm before they are rotated: Henry et al. 2020, https://arxiv.org/abs/2010.04245.</summary>
    public bool QueryKeyNorm { get; init; }

    /// <summary>Base of the rotary embedding's wavelengths.</summary>
    public double RotaryBase { get; init; } = 10000;

    /// <summary>So many first layers have one dense SwiGLU instead of experts.</summary>
    public int DenseLayers { get; init; }

    /// <summary>Hidden width of a dense layer; unused where there is none.</summary>
    public int DenseWidth { get; init; }

    /// <summary>Whether the head is the embedding's matrix.</summary>
    public bool TieEmbeddings { get; init; }

    /// <summary>Standard deviation of initial weights; that of projections into the residual stream is divided by sqrt(2 * <see cref="Layers"/>).</summary>
    public double InitStd { get; init; } = 0.02;

    /// <summary>The experts of the layers behind <see cref="DenseLayers"/>.</summary>
    public required MoeOptions Moe { get; init; }

    /// <summary>Standard deviation of projections into the residual stream, whose variance then does not grow with depth.</summary>
    internal double ResidualStd => InitStd / Math.Sqrt(2 * Layers);

    /// <exception cref="ArgumentException">Lengths that don't fit each other.</exception>
    internal void Check()
    {
        Require(Layers >= 1 && Width >= 1 && SequenceLength >= 1 && Vocabulary >= 1, $"{this} has an empty dimension");
        Require(KeyValueHeads >= 1 && Heads % KeyValueHeads == 0, $"{Heads} query heads can't share {KeyValueHeads} key and value heads evenly");
        Require(HeadWidth >= 2 && HeadWidth % 2 == 0, $"the rotary embedding turns pairs, but a head has {HeadWidth} numbers");
        Require(DenseLayers >= 0 && DenseLayers <= Layers, $"{DenseLayers} dense layers of {Layers}");
        Require(DenseLayers == 0 || DenseWidth >= 1, $"dense layers of width {DenseWidth}");
        Require(DenseLayers == Layers || Moe.TopK >= 1 && Moe.TopK <= Moe.Experts, $"{Moe.TopK} of {Moe.Experts} experts can't be chosen");
        Require(DenseLayers == Layers || Moe.ExpertWidth >= 1 && Moe.SharedExperts >= 0, $"{Moe} has an empty dimension");
        Require(Moe.CapacityFactor is null or > 0, $"a capacity factor of {Moe.CapacityFactor}");
    }

    private static void Require(bool holds, string otherwise)
    {
        if (!holds)
        {
            throw new ArgumentException(otherwise);
        }
    }
}
