namespace Moe.Training.Configuration;

/// <summary>Section <c>train</c>.</summary>
public sealed record TrainConfig
{
    [Setting("Optimizer steps.", AtLeast = 1)]
    public int Steps { get; init; } = 500;

    [Setting("Sequences that a rank takes through the model at once.", AtLeast = 1, AtMost = 65536)]
    public int MicroBatch { get; init; } = 8;

    [Setting("Micro-batches a rank and step; the global batch is micro_batch * accumulation * ranks sequences.", AtLeast = 1, AtMost = 65536)]
    public int Accumulation { get; init; } = 1;

    [Setting("Largest norm of the whole gradient; a longer one is scaled down to it. 0 is off.", AtLeast = 0)]
    public double ClipNorm { get; init; } = 1;

    [Setting("Type of activations and products; with `bfloat16` the optimizer keeps float32 weights.")]
    public Precision Precision { get; init; } = Precision.Float32;

    [Setting("Type that matrices are stored in; norms and routers are float32 always, and under `precision: float64` all is float64.")]
    public StoredType Weights { get; init; } = StoredType.Float32;

    [Setting("Whether forward and backward are captured after two steps and then launched as one CUDA graph: for a lone rank with `parallel.device: cuda`, `precision: bfloat16` and accumulation 1.")]
    public bool GraphCapture { get; init; }

    [Setting("What backward computes again instead of keeping it (activation checkpointing): `experts`, the first product of each feed-forward part and the experts' rows; `block`, whole layers; or `auto`: what "
        + "`memory_budget` asks for, without one nothing. Routing is never decided again, and no bit of a gradient changes; see docs/memory.md.")]
    public Recompute Recompute { get; init; } = Recompute.Auto;

    [Setting("In so many layers, the first ones.", AtLeast = 1, Default = "null (all)", When = "train.recompute=experts|block")]
    public int? RecomputeLayers { get; init; }

    [Setting("Where a GPU keeps what its layers keep for backward: `activations` in the host's memory, copied while it computes; `none` in its own; or `auto`: in its own where `memory_budget` can be met so.")]
    public Offload Offload { get; init; } = Offload.Auto;

    [Setting("What the tensors of a rank may take at most, as in `60GiB`, `800MiB`: with `recompute: auto` the least is computed again with which the planned bytes fit; where nothing fits, nothing starts.",
        Default = "null (no limit)")]
    public string? MemoryBudget { get; init; }

    [Setting("TFLOP/s that a rank can make at most, which `perf/mfu_pct` is held against.", Above = 0, Default = "null (by the GPU's name for `precision: bfloat16`, else measured at the start)")]
    public double? PeakTflops { get; init; }

    [Setting("Steps between rows of metrics.jsonl.", AtLeast = 1)]
    public int LogEvery { get; init; } = 10;

    [Setting("Steps between evaluations, with one more at the end; 0 is never.", AtLeast = 0)]
    public int EvalEvery { get; init; } = 100;

    [Setting("Sequences an evaluation takes, the same each time; 0 is all of the evaluation split.", AtLeast = 0)]
    public int EvalSequences { get; init; } = 256;

    [Setting("Steps between checkpoints, with one more at the end; 0 is only at the end.", AtLeast = 0)]
    public int CheckpointEvery { get; init; } = 100;

    [Setting("Newest checkpoints kept; 0 keeps all.", AtLeast = 0)]
    public int KeepCheckpoints { get; init; } = 2;

    [Setting("Save after this step and leave with exit code 75, resumable.", AtLeast = 1, Default = "null (run to the end)")]
    public int? StopAtStep { get; init; }

    [Setting("Steps in a row that may be skipped because loss or gradient isn't finite; one more ends the run.", AtLeast = 0)]
    public int MaxSkippedSteps { get; init; } = 10;

    [Setting("Whether a run resumed on another number of ranks adapts accumulation, so that the global batch stays.")]
    public bool KeepGlobalBatch { get; init; } = true;

    [Setting("Tokens of a sample that the launcher prints when training has finished; 0 prints none.", AtLeast = 0, AtMost = 1000000)]
    public int SampleTokens { get; init; }

    [Setting("Text that the sample continues.")]
    public string SamplePrompt { get; init; } = "The";
}

/// <summary>Values of <c>train.recompute</c>.</summary>
public enum Recompute
{
    /// <summary>What the budget asks for.</summary>
    Auto,

    /// <summary>Nothing.</summary>
    None,

    /// <summary>The first product of every feed-forward part, and the experts' rows.</summary>
    Experts,

    /// <summary>Whole layers.</summary>
    Block,
}

/// <summary>Values of <c>train.offload</c>.</summary>
public enum Offload
{
    /// <summary>What the budget asks for.</summary>
    Auto,

    /// <summary>In the device's memory.</summary>
    None,

    /// <summary>In the host's.</summary>
    Activations,
}

/// <summary>Values of <c>train.weights</c> and <c>optimizer.state_type</c>.</summary>
public enum StoredType
{
    /// <summary>IEEE single.</summary>
    Float32,

    /// <summary>Half the memory, and a step smaller than 1/256 of the number is lost.</summary>
    [Spelling("bfloat16")] BFloat16,
}

/// <summary>Values of <c>train.precision</c>.</summary>
public enum Precision
{
    /// <summary>IEEE single.</summary>
    Float32,

    /// <summary>Eight bits of exponent, seven of fraction.</summary>
    [Spelling("bfloat16")] BFloat16,

    /// <summary>IEEE double, for verification.</summary>
    Float64,
}
