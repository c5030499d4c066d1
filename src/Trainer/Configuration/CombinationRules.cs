using Moe.Training.Tracking;

namespace Moe.Training.Configuration;

/// <summary>One rule about several keys.</summary>
/// <param name="Keys">The keys it looks at, the one to blame first.</param>
/// <param name="Check">What is wrong, with every number; null where nothing is.</param>
/// <param name="Remedy">What to write instead.</param>
internal sealed record CombinationRule(string[] Keys, Func<RunConfig, string?> Check, Func<RunConfig, string>? Remedy = null);

/// <summary>The rules about several keys at once. A rule may rely on each of its keys being in range.</summary>
internal static class CombinationRules
{
    // What the CUDA forms of kernels are made for: native/kernels/rms_norm.cu and router.cu. The sort of choices (permute.cu) takes more experts than the router.
    private const int MostNormedOnGpu = 16384, MostRoutedOnGpu = 1024;

    /// <summary>Combinations that cannot run.</summary>
    public static readonly IReadOnlyList<CombinationRule> All =
    [
        new(["model.heads", "model.width", "model.head_width"],
            c => c.Model.HeadWidth is null && c.Model.Width % c.Model.Heads != 0
                ? $"model.width {c.Model.Width} isn't divisible by model.heads {c.Model.Heads}" : null,
            c => $"{NearestDivisor(c.Model.Width, c.Model.Heads)} heads divide it, or set model.head_width"),
        new(["model.heads", "model.width", "model.head_width"],
            c => c.Model.HeadWidth is null && c.Model.Width % c.Model.Heads == 0 && c.Model.HeadSize % 2 != 0
                ? $"model.width {c.Model.Width} / model.heads {c.Model.Heads} gives heads of width {c.Model.HeadSize}, but the rotary embedding needs an even width" : null,
            c => "change model.heads, or set model.head_width"),
        new(["model.head_width"],
            c => c.Model.HeadWidth % 2 == 1 ? $"model.head_width {c.Model.HeadWidth} is odd, but the rotary embedding turns pairs" : null,
            c => $"{c.Model.HeadWidth - 1} and {c.Model.HeadWidth + 1} are even"),
        new(["model.key_value_heads", "model.heads"],
            c => c.Model.Heads % c.Model.KeyValueHeadCount != 0
                ? $"model.key_value_heads {c.Model.KeyValueHeadCount} doesn't divide model.heads {c.Model.Heads}" : null,
            c => $"the nearest valid value is {NearestDivisor(c.Model.Heads, c.Model.KeyValueHeadCount)}"),
        new(["model.moe.top_k", "model.moe.experts"],
            c => c.Model.Moe.TopK > c.Model.Moe.Experts
                ? $"model.moe.top_k {c.Model.Moe.TopK} exceeds model.moe.experts {c.Model.Moe.Experts}" : null),
        new(["model.dense_layers", "model.layers"],
            c => c.Model.DenseLayers > c.Model.Layers ? $"model.dense_layers {c.Model.DenseLayers} exceeds model.layers {c.Model.Layers}" : null),
        new(["model.vocabulary", "data.tokenizer"],
            c => c.Data.Tokenizer == TokenizerName.Byte && c.Model.Vocabulary < 256
                ? $"model.vocabulary {c.Model.Vocabulary} is less than the byte tokenizer's 256 ids" : null),
        new(["train.stop_at_step", "train.steps"],
            c => c.Train.StopAtStep >= c.Train.Steps
                ? $"train.stop_at_step {c.Train.StopAtStep} isn't before the last step, train.steps {c.Train.Steps}" : null),
        new(["schedule.warmup_steps", "train.steps"],
            c => c.Schedule.WarmupSteps >= c.Train.Steps && c.Schedule.Name != ScheduleName.Refined
                ? $"schedule.warmup_steps {c.Schedule.WarmupSteps} leaves nothing of train.steps {c.Train.Steps}" : null,
            c => $"at most {c.Train.Steps - 1}"),
        new(["schedule.decay_fraction", "schedule.warmup_steps", "train.steps"],
            c => c.Schedule.Name == ScheduleName.Wsd && c.Schedule.WarmupSteps < c.Train.Steps && c.Schedule.WarmupSteps + ModelAssembly.DecaySteps(c) >= c.Train.Steps
                ? $"schedule.warmup_steps {c.Schedule.WarmupSteps} and the fall over the last {ModelAssembly.DecaySteps(c)} steps leave no stable part of train.steps {c.Train.Steps}" : null,
            _ => "a smaller schedule.decay_fraction, or schedule.name: linear"),
        new(["schedule.file", "schedule.name"],
            c => c.Schedule is { Name: ScheduleName.Refined, File: null } ? "schedule.name refined needs schedule.file" : null,
            _ => "launch schedule refine --run DIR writes one"),
        new(["optimizer.nesterov", "optimizer.name", "optimizer.momentum", "optimizer.dampening"],
            c => c.Optimizer is { Nesterov: true } and not { Momentum: null or > 0, Dampening: 0 }
                && c.Optimizer.Names.Any(name => name is OptimizerName.Sgd or OptimizerName.Lars)
                ? $"optimizer.nesterov needs a momentum above 0 and no dampening, but optimizer.momentum is {ConfigScalar.Write(c.Optimizer.Momentum)} "
                    + $"and optimizer.dampening {ConfigScalar.Write(c.Optimizer.Dampening)}" : null),
        new(["optimizer.muon.rows", "optimizer.muon.table"],
            c => c.Optimizer.Muon is { Table: MuonTable.Rows, Rows.Count: 0 } ? "optimizer.muon.table is rows, but optimizer.muon.rows has none" : null,
            c => "give at least one item {a: ..., b: ..., c: ...}"),
        new(["optimizer.precondition", "optimizer.name", "optimizer.rules"],
            c => c.Optimizer.Precondition != Precondition.None && c.Optimizer.Names.Any(name => name is OptimizerName.Muon or OptimizerName.DropMuon)
                ? $"optimizer.precondition {ConfigScalar.Write(c.Optimizer.Precondition)} turns the singular values of gradients, which Muon then sets all to about 1" : null,
            c => "set optimizer.precondition to none, or take a first-order optimizer such as adamw"),
        new(["optimizer.weight_decay", "optimizer.learning_rate", "optimizer.decay", "optimizer.rules"],
            c => OptimizerRuleFaults.LargestDecay(c.Optimizer) is > 1 and var share
                ? FormattableString.Invariant($"optimizer.weight_decay takes {share:G3} of a weight in a step at the peak (optimizer.decay {ConfigScalar.Write(c.Optimizer.Decay)}): more than all of it") : null,
            _ => "a smaller weight_decay or learning_rate"),
        new(["optimizer.experts_in_backward", "train.clip_norm"],
            c => c is { Optimizer.ExpertsInBackward: true, Train.ClipNorm: > 0 }
                ? $"optimizer.experts_in_backward steps before the gradient's norm is known, which train.clip_norm {ConfigScalar.Write(c.Train.ClipNorm)} needs" : null,
            _ => "set train.clip_norm to 0, or optimizer.experts_in_backward to false"),
        new(["optimizer.experts_in_backward", "train.accumulation"],
            c => c is { Optimizer.ExpertsInBackward: true, Train.Accumulation: > 1 }
                ? $"optimizer.experts_in_backward steps in a step's only backward, but train.accumulation is {c.Train.Accumulation}" : null,
            _ => "set train.accumulation to 1 and train.micro_batch higher, or optimizer.experts_in_backward to false"),
        new(["optimizer.experts_in_backward", "train.graph_capture"],
            c => c is { Optimizer.ExpertsInBackward: true, Train.GraphCapture: true }
                ? "train.graph_capture replays a backward with the numbers that it had when it was captured, but optimizer.experts_in_backward has others in each step" : null,
            _ => "set one of them to false"),
        new(["optimizer.experts_in_backward", "optimizer.precondition"],
            c => c.Optimizer is { ExpertsInBackward: true, Precondition: not Precondition.None }
                ? $"optimizer.precondition {ConfigScalar.Write(c.Optimizer.Precondition)} turns all gradients at once, but optimizer.experts_in_backward steps experts before the others' are there" : null,
            _ => "set optimizer.experts_in_backward to false"),
        new(["optimizer.experts_in_backward", "optimizer.name", "optimizer.rules"],
            c => c.Optimizer.ExpertsInBackward && c.Optimizer.Names.Contains(OptimizerName.DropMuon)
                ? "optimizer.experts_in_backward has no form for drop_muon, which leaves other layers out of each step" : null,
            _ => "set optimizer.experts_in_backward to false"),
        new(["optimizer.experts_in_backward", "optimizer.name", "optimizer.rules", "optimizer.lamb.max_gradient_norm"],
            c => c.Optimizer is { ExpertsInBackward: true, Lamb.MaxGradientNorm: { } most } && c.Optimizer.Names.Contains(OptimizerName.Lamb)
                ? $"optimizer.lamb.max_gradient_norm {ConfigScalar.Write(most)} needs the norm of all gradients, but optimizer.experts_in_backward steps before it is known" : null,
            _ => "set optimizer.lamb.max_gradient_norm to null, or optimizer.experts_in_backward to false"),
        new(["train.weights", "train.precision"],
            c => c.Train is { Weights: StoredType.BFloat16, Precision: not Precision.BFloat16 }
                ? $"train.weights bfloat16 with train.precision {ConfigScalar.Write(c.Train.Precision)}: what is stored in bfloat16 can only be worked in it" : null,
            c => "set train.precision to bfloat16, or train.weights to float32"),
        new(["train.weights", "optimizer.name", "optimizer.rules"],
            c => c.Train.Weights == StoredType.BFloat16 && c.Optimizer.Names.FirstOrDefault(name => name != OptimizerName.AdamW) is not OptimizerName.AdamW and var other
                ? $"train.weights bfloat16 needs optimizer.name adamw, which alone steps such weights, not {ConfigScalar.Write(other)}" : null,
            c => "set train.weights to float32"),
        new(["train.recompute_layers", "model.layers"],
            c => c.Train.RecomputeLayers > c.Model.Layers ? $"train.recompute_layers {c.Train.RecomputeLayers} exceeds model.layers {c.Model.Layers}" : null,
            _ => "leave it out for all layers"),
        new(["train.offload", "parallel.device"],
            c => c is { Train.Offload: Offload.Activations, Parallel.Device: DeviceName.Cpu }
                ? "train.offload activations copies what a GPU keeps into the host's memory, but parallel.device is cpu: it is there already" : null,
            _ => "train.recompute experts or block keeps less"),
        new(["train.offload", "train.graph_capture"],
            c => c.Train is { Offload: Offload.Activations, GraphCapture: true }
                ? "train.offload activations copies at times that the host decides, but train.graph_capture replays a fixed order of work" : null,
            _ => "set one of them to none or false"),
        new(["train.memory_budget"],
            c => c.Train.MemoryBudget is { } text && ByteSize.Parse(text) is null ? $"train.memory_budget is {ConfigScalar.Write(ConfigScalar.Shorten(text))}, which is no size" : null,
            _ => "a number above 0 with KiB, MiB, GiB, TiB, KB, MB, GB or TB, as in 60GiB"),
        new(["parallel.device", "optimizer.precondition"],
            c => c.Parallel.Device == DeviceName.Cuda && c.Optimizer.Precondition != Precondition.None
                ? $"optimizer.precondition {ConfigScalar.Write(c.Optimizer.Precondition)} runs on the CPU only, but parallel.device is cuda" : null,
            c => "set optimizer.precondition to none, or parallel.device to cpu"),
        new(["model.width", "parallel.device"],
            c => c.Parallel.Device == DeviceName.Cuda && c.Model.Width > MostNormedOnGpu
                ? $"model.width {c.Model.Width} is more than a GPU's kernel norms at once ({MostNormedOnGpu}), but parallel.device is cuda" : null,
            _ => $"at most {MostNormedOnGpu}, or set parallel.device to cpu"),
        new(["model.moe.experts", "model.layers", "model.dense_layers", "parallel.device"],
            c => c.Parallel.Device == DeviceName.Cuda && c.Model.MoeLayers > 0 && c.Model.Moe.Experts > MostRoutedOnGpu
                ? $"model.moe.experts {c.Model.Moe.Experts} are more than a GPU's router chooses from ({MostRoutedOnGpu}), but parallel.device is cuda" : null,
            _ => $"at most {MostRoutedOnGpu}, or set parallel.device to cpu"),
        new(["train.graph_capture", "parallel.device"],
            c => c.Train.GraphCapture && c.Parallel.Device != DeviceName.Cuda
                ? $"train.graph_capture needs a GPU, but parallel.device is {ConfigScalar.Write(c.Parallel.Device)}" : null,
            c => "set parallel.device to cuda, or train.graph_capture to false"),
        new(["train.graph_capture", "train.precision", "model.width", "model.moe.expert_width"],
            c => c.Train.GraphCapture && (c.Train.Precision != Precision.BFloat16 || c.Model.Width % 8 != 0 || c.Model.Moe.ExpertWidth % 8 != 0)
                ? $"train.graph_capture needs the experts' grouped product, which train.precision bfloat16 has, and widths divisible by 8: "
                    + $"train.precision is {ConfigScalar.Write(c.Train.Precision)}, model.width {c.Model.Width}, model.moe.expert_width {c.Model.Moe.ExpertWidth}" : null,
            c => "set train.precision to bfloat16, or train.graph_capture to false"),
        new(["train.graph_capture", "model.moe.capacity_factor", "parallel.dispatcher"],
            c => c.Train.GraphCapture && (c.Model.Moe.CapacityFactor is not null || c.Parallel.Dispatcher is not (DispatcherName.Auto or DispatcherName.Local))
                ? $"train.graph_capture replays a fixed order of work, but model.moe.capacity_factor {ConfigScalar.Write(c.Model.Moe.CapacityFactor)} and parallel.dispatcher "
                    + $"{ConfigScalar.Write(c.Parallel.Dispatcher)} have the host read what the device has counted" : null,
            c => "set model.moe.capacity_factor to null and parallel.dispatcher to auto, or train.graph_capture to false"),
        new(["train.graph_capture", "optimizer.name", "optimizer.rules"],
            c => c.Train.GraphCapture && c.Optimizer.Names.Contains(OptimizerName.DropMuon)
                ? "train.graph_capture replays a fixed order of work, but drop_muon leaves other layers out of each step" : null,
            c => "set optimizer.name to muon, or train.graph_capture to false"),
        new(["train.graph_capture", "train.recompute", "train.memory_budget"],
            c => c.Train is { GraphCapture: true } and ({ Recompute: Recompute.Experts or Recompute.Block } or { MemoryBudget: not null })
                ? $"train.graph_capture keeps all that backward needs in the graph's memory, but train.recompute is {ConfigScalar.Write(c.Train.Recompute)} and train.memory_budget "
                    + $"{ConfigScalar.Write(c.Train.MemoryBudget)}" : null,
            c => "set train.recompute to none and train.memory_budget to null, or train.graph_capture to false"),
        new(["train.graph_capture", "train.accumulation"],
            c => c.Train is { GraphCapture: true, Accumulation: > 1 }
                ? $"train.graph_capture captures steps of one micro-batch, but train.accumulation is {c.Train.Accumulation}" : null,
            c => "set train.accumulation to 1 and train.micro_batch higher, or train.graph_capture to false"),
        new(["data.eval_fraction", "train.eval_every"],
            c => c.Train.EvalEvery > 0 && c.Data.EvalFraction == 0
                ? $"data.eval_fraction is 0, so there is nothing to evaluate on every train.eval_every {c.Train.EvalEvery} steps" : null,
            c => "set a fraction such as 0.05, or train.eval_every to 0"),
        new(["tracking.mlflow"],
            c => c.Tracking.Mlflow is { } uri && TrackingTarget.Fault(uri) is { } fault ? $"tracking.mlflow {fault}" : null,
            _ => "give http://HOST:PORT, file:PATH or none"),
        new(["tracking.tags"],
            c => c.Tracking.Tags.FirstOrDefault(tag => MlflowLimits.CleanKey(tag.Key) != tag.Key) is { } odd
                ? $"tracking.tags has the key {ConfigScalar.Write(ConfigScalar.Shorten(odd.Key))}, which MLflow refuses" : null,
            _ => "letters, digits, '_', '-', '.', ' ' and '/' make a key of at most 250"),
        new(["data.domains"],
            c => c.Data is { Random: false, Domains.Count: 0 } ? "data.domains names no text to train on" : null,
            c => "give at least one item {name: ..., path: ...}"),
        new(["data.random", "data.domains", "train.eval_every"],
            c => c.Data is { Random: true, Domains.Count: 0 } && c.Train.EvalEvery > 0
                ? $"without data.domains there is nothing to evaluate on every train.eval_every {c.Train.EvalEvery} steps" : null,
            c => "set train.eval_every to 0, or give a text"),
        new(["data.domains"],
            c => c.Data.Domains.GroupBy(d => d.Name).FirstOrDefault(g => g.Count() > 1) is { } twice
                ? $"data.domains has {twice.Count()} items named {twice.Key}; metrics need a name each" : null),
        .. SizeRules.All,
    ];

    /// <summary>Combinations that run but are rarely meant.</summary>
    public static readonly IReadOnlyList<CombinationRule> Doubts =
    [
        new(["optimizer.rules", "optimizer.name"],
            c => c.Optimizer.Name != OptimizerName.DropMuon && c.Optimizer.Names.Contains(OptimizerName.DropMuon)
                ? "a rule gives parameters to drop_muon, which leaves whole layers out of a step, with what other optimizers have of them" : null),
        new(["model.moe.normalize_weights", "model.moe.top_k"],
            c => c.Model.Moe is { NormalizeWeights: true, TopK: 1, Experts: > 1 }
                ? "with model.moe.top_k 1, model.moe.normalize_weights makes every weight 1, so the router learns nothing from the language model's loss" : null,
            c => "set model.moe.normalize_weights to false"),
        new(["balance.scope", "balance.bias_rate"],
            c => c.Balance is { Scope: BalanceScope.None, BiasRate: 0 } && c.Model.Moe.TopK < c.Model.Moe.Experts && c.Model.MoeLayers > 0
                ? $"nothing balances the {c.Model.Moe.Experts} experts: balance.scope is none and balance.bias_rate 0" : null),
        new(["balance.bias_rate", "model.moe.top_k"],
            c => c.Balance.BiasRate > 0 && c.Model.Moe.TopK == c.Model.Moe.Experts
                ? $"balance.bias_rate has no effect: every token goes to all {c.Model.Moe.Experts} experts" : null),
        new(["optimizer.amsgrad", "optimizer.adabelief.rectify"],
            c => c.Optimizer is { Amsgrad: true, Adabelief.Rectify: true } && c.Optimizer.Names.Contains(OptimizerName.AdaBelief)
                ? "optimizer.amsgrad has no effect on rectified steps of adabelief" : null,
            c => "set optimizer.adabelief.rectify to false"),
    ];

    private static int NearestDivisor(int whole, int wanted) =>
        Enumerable.Range(1, int.Min(whole, 1024)).Where(n => whole % n == 0).MinBy(n => (int.Abs(n - wanted), n));
}
