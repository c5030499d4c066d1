using Moe.Training.Configuration;
using NUnit.Framework;
using static Moe.Tests.Configuration.ConfigurationFolder;

namespace Moe.Tests.Configuration;

internal sealed class ConfigurationRuleTests
{
    private static readonly RunConfig Valid = new() { Data = new() { Domains = [new() { Name = "a", Path = "/a.txt" }] } };

    [TestCase("model.heads=5", "model.width 128 isn't divisible by model.heads 5; 4 heads divide it")]
    [TestCase("model.width=20", "gives heads of width 5, but the rotary embedding needs an even width")]
    [TestCase("model.head_width=33", "model.head_width 33 is odd")]
    [TestCase("model.key_value_heads=3", "model.key_value_heads 3 doesn't divide model.heads 4; the nearest valid value is 2")]
    [TestCase("model.moe.top_k=17", "model.moe.top_k 17 exceeds model.moe.experts 16")]
    [TestCase("model.dense_layers=5", "model.dense_layers 5 exceeds model.layers 4")]
    [TestCase("model.moe.capacity_factor=0", "model.moe.capacity_factor is 0; it takes a number above 0, or null")]
    [TestCase("model.vocabulary=255", "model.vocabulary 255 is less than the byte tokenizer's 256 ids")]
    [TestCase("train.stop_at_step=500", "train.stop_at_step 500 isn't before the last step, train.steps 500")]
    [TestCase("schedule.warmup_steps=500", "schedule.warmup_steps 500 leaves nothing of train.steps 500; at most 499")]
    [TestCase("optimizer={name: sgd, nesterov: true, momentum: 0}", "optimizer.momentum is 0 and optimizer.dampening 0")]
    [TestCase("optimizer.name=mkor_h", "optimizer.name is mkor_h, a value of optimizer.precondition; it takes one of adamw, sgd")]
    [TestCase("optimizer={learning_rate: 1001}", "optimizer.learning_rate is 1001; it takes a number above 0 to 1000")]
    [TestCase("optimizer={learning_rate: 1, weight_decay: 1.5}", "optimizer.weight_decay takes 1.5 of a weight in a step at the peak (optimizer.decay decoupled): more than all of it")]
    [TestCase("optimizer={decay: fixed, weight_decay: 2}", "optimizer.weight_decay takes 2 of a weight")]
    [TestCase("optimizer={name: muon, auxiliary_learning_rate: 20}", "optimizer.weight_decay takes 2 of a weight")]
    [TestCase("optimizer={rules: [{match: head, learning_rate: 30}]}", "optimizer.weight_decay takes 3 of a weight")]
    [TestCase("optimizer={precondition: mkor, mkor: {skip: [{match: layers.*.gate}, {match: 'layer.*'}]}}",
        "optimizer.mkor.skip[1] (match: layer.*) matches no matrix that MKOR preconditions; the nearest is layers.*")]
    [TestCase("optimizer={name: muon, muon: {preset: kellar}}", "optimizer.muon.preset is kellar (did you mean keller?); it takes one of keller, moonlight, torch, dion")]
    [TestCase("optimizer={name: muon, muon: {steps: 0}}", "optimizer.muon.steps is 0; it takes a whole number from 1 to 100")]
    [TestCase("optimizer={name: muon, muon: {table: rows}}", "optimizer.muon.table is rows, but optimizer.muon.rows has none")]
    [TestCase("optimizer={name: muon, muon: {table: rows, rows: [{a: 3, b: -4}]}}", "optimizer.muon.rows[0]")]
    [TestCase("optimizer={name: drop_muon, drop: {probability: 0}}", "optimizer.drop.probability is 0; it takes a number above 0 to 1")]
    [TestCase("train.graph_capture=true", "train.precision is float32, model.width 128, model.moe.expert_width 256; set train.precision to bfloat16")]
    [TestCase("train.graph_capture=true", "train.graph_capture needs a GPU, but parallel.device is cpu; set parallel.device to cuda")]
    [TestCase("train={graph_capture: true, recompute: block}", "but train.recompute is block and train.memory_budget null")]
    [TestCase("train={graph_capture: true, memory_budget: 40GiB}", "but train.recompute is auto and train.memory_budget \"40GiB\"")]
    [TestCase("train={graph_capture: true, accumulation: 2}", "captures steps of one micro-batch, but train.accumulation is 2")]
    [TestCase("optimizer.experts_in_backward=true", "steps before the gradient's norm is known, which train.clip_norm 1 needs; set train.clip_norm to 0")]
    [TestCase("model={layers: 1024, moe: {experts: 65536}}", "model.moe.experts 65536 in each of 1024 layers are 6.711e+7 experts (at most 1.311e+5)")]
    [TestCase("model={dense_layers: 1, moe: {experts: 65536, top_k: 65536, expert_width: 1048576}}", "gives a token 6.872e+10 hidden numbers (at most 6.711e+7)")]
    [TestCase("model={vocabulary: 16777216, width: 65536}", "make an embedding of 1.1e+12 numbers (at most 2.749e+11)")]
    [TestCase("model={layers: 1024, width: 65536, moe: {experts: 64, expert_width: 1048576}}", "the model has 1.353e+16 parameters (at most 1e+15); a smaller model.width")]
    [TestCase("train={micro_batch: 65536, accumulation: 65536}", "give a rank 5.498e+11 tokens a step (at most 1.074e+9)")]
    [TestCase("model={width: 65536, layers: 1024, sequence_length: 1048576, moe: {experts: 64, top_k: 64}}", "makes 1.604e+17 numbers (at most 1.126e+15); a smaller train.micro_batch")]
    [TestCase("data.eval_fraction=0", "nothing to evaluate on every train.eval_every 100 steps")]
    public void Impossible_combination_is_refused_with_its_numbers(string option, string message)
    {
        using var folder = new ConfigurationFolder();

        Assert.That(folder.Refuse(Domains, option).Select(f => f.ToString()), Has.Some.Contains(message));
    }

    [TestCase("model.width=16385", "model.width 16385 is more than a GPU's kernel norms at once (16384), but parallel.device is cuda; at most 16384, or set parallel.device to cpu")]
    [TestCase("model.moe.experts=1025", "model.moe.experts 1025 are more than a GPU's router chooses from (1024), but parallel.device is cuda; at most 1024")]
    public void What_a_kernel_of_a_gpu_does_not_take_is_refused_beside_cuda(string option, string message)
    {
        using var folder = new ConfigurationFolder();

        Assert.That(folder.Refuse(Domains, "parallel.device=cuda", option).Select(f => f.ToString()), Has.Some.Contains(message));
    }

    [TestCase("model={width: 16384, heads: 128}")]
    [TestCase("model.moe.experts=1024")]
    [TestCase("model={dense_layers: 4, moe: {experts: 1025}}")]
    public void What_the_kernels_of_a_gpu_take_is_not_refused(string option)
    {
        using var folder = new ConfigurationFolder();

        Assert.That(() => folder.Read(Domains, "parallel.device=cuda", option), Throws.Nothing);
    }

    [TestCase("optimizer: {name: drop_muon}", "drop_muon leaves other layers out of each step")]
    [TestCase("model: {moe: {capacity_factor: 1.5}}", "model.moe.capacity_factor 1.5 and parallel.dispatcher auto have the host read what the device has counted")]
    [TestCase("parallel: {dispatcher: all_to_all}", "parallel.dispatcher all_to_all have the host read what the device has counted")]
    public void What_cannot_be_captured_is_refused_beside_graph_capture(string yaml, string message)
    {
        using var folder = new ConfigurationFolder();

        Assert.That(folder.Refuse($"train: {{graph_capture: true}}\n{yaml}" + Domains).Select(f => f.ToString()), Has.Some.Contains(message));
    }

    [TestCase("train.accumulation=2", "steps in a step's only backward, but train.accumulation is 2; set train.accumulation to 1")]
    [TestCase("train={graph_capture: true, clip_norm: 0}", "but optimizer.experts_in_backward has others in each step; set one of them to false")]
    [TestCase("optimizer={experts_in_backward: true, precondition: mkor}", "optimizer.precondition mkor turns all gradients at once")]
    [TestCase("optimizer={experts_in_backward: true, name: drop_muon}", "optimizer.experts_in_backward has no form for drop_muon")]
    [TestCase("optimizer={experts_in_backward: true, name: lamb}", "optimizer.lamb.max_gradient_norm 1 needs the norm of all gradients")]
    [TestCase("optimizer={experts_in_backward: true, rules: [{match: head, optimizer: lamb}]}", "set optimizer.lamb.max_gradient_norm to null")]
    public void What_needs_all_gradients_is_refused_beside_experts_in_backward(string option, string message)
    {
        using var folder = new ConfigurationFolder();

        var file = "optimizer: {experts_in_backward: true}\ntrain: {clip_norm: 0}" + Domains;
        Assert.That(folder.Refuse(file, option).Select(f => f.ToString()), Has.Some.Contains(message));
    }

    [Test]
    public void Experts_that_several_ranks_hold_are_refused_beside_experts_in_backward()
    {
        var config = Valid with { Optimizer = new() { ExpertsInBackward = true }, Train = Valid.Train with { ClipNorm = 0 }, Parallel = new() { ExpertParallel = 2 } };

        Assert.That(() => ConfigRules.ValidateMesh(config, 2), Throws.Nothing);
        Assert.That(
            () => ConfigRules.ValidateMesh(config, 4),
            Throws.TypeOf<ConfigException>().With.Message.Contains("parallel.expert_parallel is 2 of 4, so that 2 ranks hold each").And.Message.Contains("set parallel.expert_parallel to 4"));
    }

    [Test]
    public void Combination_is_blamed_on_the_key_that_somebody_set()
    {
        using var folder = new ConfigurationFolder();

        var fault = folder.Refuse("model:\n  moe:\n    experts: 1" + Domains).Single();

        Assert.That(fault.What, Is.EqualTo("model.moe.top_k 2 exceeds model.moe.experts 1"));
        Assert.That(fault.Origin.Line, Is.EqualTo(3));
    }

    [Test]
    public void Rules_hold_for_records_made_in_code()
    {
        var broken = Valid with
        {
            Model = new() { Heads = 0, Moe = new() { CapacityFactor = double.NaN } },
            Balance = new() { Scope = (BalanceScope)9 },
            Run = new() { Name = "../x" },
        };

        var refused = Assert.Throws<ConfigException>(() => ConfigRules.Validate(broken));

        Assert.That(refused!.Faults.Select(f => f.Key), Is.EquivalentTo(new[] { "run.name", "model.heads", "model.moe.capacity_factor", "balance.scope" }));
        Assert.That(() => ConfigRules.Validate(Valid), Throws.Nothing);
    }

    [TestCase(4, null, 16)]
    [TestCase(4, 2, 6)]
    [TestCase(6, 3, 9)]
    [TestCase(1, null, 1)]
    public void Mesh_that_divides_is_accepted(int worldSize, int? expertParallel, int experts) =>
        Assert.That(() => ConfigRules.ValidateMesh(Mesh(expertParallel, experts), worldSize), Throws.Nothing);

    [TestCase(6, null, 16, "parallel.expert_parallel is all 6 ranks, which doesn't divide the 16 experts", "the nearest valid value is 2 (for 6 ranks and 16 experts: 1, 2), or set model.moe.experts to 12 or 18")]
    [TestCase(4, 3, 9, "parallel.expert_parallel is 3, which doesn't divide the 4 ranks", "the nearest valid value is 1 (for 4 ranks and 9 experts: 1)")]
    [TestCase(2, 4, 16, "parallel.expert_parallel is 4, which doesn't divide the 2 ranks", "the nearest valid value is 2 (for 2 ranks and 16 experts: 1, 2)")]
    [TestCase(8, null, 4, "parallel.expert_parallel is all 8 ranks, which doesn't divide the 4 experts", "the nearest valid value is 4 (for 8 ranks and 4 experts: 1, 2, 4), or set model.moe.experts to 8")]
    public void Mesh_that_does_not_divide_names_the_nearest_valid_values(int worldSize, int? expertParallel, int experts, string what, string remedy)
    {
        var refused = Assert.Throws<ConfigException>(() => ConfigRules.ValidateMesh(Mesh(expertParallel, experts), worldSize));

        Assert.That(refused!.Faults.Single().What, Does.StartWith(what));
        Assert.That(refused.Faults.Single().Remedy, Is.EqualTo(remedy));
    }

    [Test]
    public void Mesh_fault_stands_where_the_key_was_set()
    {
        using var folder = new ConfigurationFolder();
        var read = folder.Read("parallel:\n  expert_parallel: 3\n  dispatcher: local" + Domains);

        var refused = Assert.Throws<ConfigException>(() => ConfigRules.ValidateMesh(read, 4));

        Assert.That(refused!.Faults.Select(f => (f.Key, f.Origin.Line)), Is.EqualTo(new[]
        {
            ("parallel.expert_parallel", 2), ("parallel.expert_parallel", 2), ("parallel.dispatcher", 3),
        }));
    }

    [TestCase("model.moe.top_k=1", "the router learns nothing")]
    [TestCase("balance.scope=none", "nothing balances the 16 experts")]
    [TestCase("model.moe={top_k: 16}|balance.bias_rate=0.001", "balance.bias_rate has no effect")]
    public void Doubtful_combination_earns_a_warning(string options, string message)
    {
        using var folder = new ConfigurationFolder();

        Assert.That(folder.Read(Domains, options.Split('|')).Warnings.Select(w => w.What), Has.One.Contains(message));
    }

    private static RunConfig Mesh(int? expertParallel, int experts) =>
        Valid with { Model = new() { Moe = new() { Experts = experts, TopK = 1 } }, Parallel = new() { ExpertParallel = expertParallel } };
}
