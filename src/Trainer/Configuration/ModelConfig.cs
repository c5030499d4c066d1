namespace Moe.Training.Configuration;

/// <summary>Section <c>model</c>: a decoder-only transformer with SwiGLU layers, dense or mixture-of-experts.</summary>
public sealed record ModelConfig
{
    [Setting("Transformer layers, each attention and a feed-forward part.", AtLeast = 1, AtMost = 1024)]
    public int Layers { get; init; } = 4;

    [Setting("Numbers in a token's hidden state (d).", AtLeast = 1, AtMost = 65536)]
    public int Width { get; init; } = 128;

    [Setting("Query heads of attention.", AtLeast = 1, AtMost = 1024)]
    public int Heads { get; init; } = 4;

    [Setting("Key and value heads; fewer than `model.heads` is grouped-query attention.", AtLeast = 1, AtMost = 1024, Default = "model.heads")]
    public int? KeyValueHeads { get; init; }

    [Setting("Numbers in one head; even, for the rotary embedding turns pairs.", AtLeast = 2, AtMost = 1024, Default = "model.width / model.heads")]
    public int? HeadWidth { get; init; }

    [Setting("Tokens in a training sequence.", AtLeast = 2, AtMost = 1048576)]
    public int SequenceLength { get; init; } = 128;

    [Setting("Where RMSNorm stands: before each sub-layer (`pre`), or before and after it (`peri`).")]
    public NormPlacement Norm { get; init; } = NormPlacement.Pre;

    [Setting("Added to the mean square inside RMSNorm.", Above = 0, AtMost = 1)]
    public double NormEpsilon { get; init; } = 1e-5;

    [Setting("Whether queries and keys pass an RMSNorm of their own, which bounds attention's logits.")]
    public bool QueryKeyNorm { get; init; }

    [Setting("Base of the rotary embedding's wavelengths; larger for longer sequences.", Above = 1)]
    public double RotaryBase { get; init; } = 10000;

    [Setting("The first layers have one dense feed-forward part instead of experts; this many of them.", AtLeast = 0, AtMost = 1024)]
    public int DenseLayers { get; init; }

    [Setting("Hidden width of a dense layer's SwiGLU.", AtLeast = 1, AtMost = 1048576,
        Default = "(model.moe.top_k + model.moe.shared_experts) * model.moe.expert_width: as many active weights as in a layer of experts")]
    public int? DenseWidth { get; init; }

    [Setting("Whether the output projection is the embedding's matrix.")]
    public bool TieEmbeddings { get; init; }

    [Setting("Standard deviation of the initial weights; projections into the residual stream are divided by sqrt(2 * model.layers).", Above = 0, AtMost = 1)]
    public double InitStd { get; init; } = 0.02;

    [Setting("Token ids the embedding and the output hold; 256 for bytes.", AtLeast = 2, AtMost = 16777216)]
    public int Vocabulary { get; init; } = 256;

    [Setting("The experts.")]
    public MoeConfig Moe { get; init; } = new();

    /// <summary>Key and value heads with the default applied.</summary>
    public int KeyValueHeadCount => KeyValueHeads ?? Heads;

    /// <summary>Width of one head with the default applied.</summary>
    public int HeadSize => HeadWidth ?? Width / Heads;

    /// <summary>Hidden width of a dense layer with the default applied.</summary>
    public int DenseHiddenSize => DenseWidth ?? (int)Math.Min(int.MaxValue, ((long)Moe.TopK + Moe.SharedExperts) * Moe.ExpertWidth); // beyond it SizeRules refuses

    /// <summary>Layers that have experts.</summary>
    public int MoeLayers => Layers - DenseLayers;
}

/// <summary>Values of <c>model.norm</c>.</summary>
public enum NormPlacement
{
    /// <summary>Before each sub-layer.</summary>
    Pre,

    /// <summary>Before and after each sub-layer (peri-layer normalization).</summary>
    Peri,
}
