using System.Text.Json;
using System.Text.RegularExpressions;
using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>What a published Muon's settings come to in ours, with those of the AdamW beside it; null where the program has none.</summary>
internal sealed partial record MuonSettings(MuonOptions Muon, double LearningRate, DType ComputeType, AdamWOptions? AdamW = null, double AdamWRate = 0)
{
    /// <summary>The program of a source; null where it is none of the four.</summary>
    public static string? Program(string source) =>
        new[] { "KellerJordan/Muon@", "MoonshotAI/Moonlight@", "pytorch/pytorch@", "microsoft/dion@" }.SingleOrDefault(start => source.StartsWith(start, StringComparison.Ordinal)) switch
        {
            "pytorch/pytorch@" when !source.Contains("torch/optim/_muon.py", StringComparison.Ordinal) => null,
            var program => program,
        };

    public static MuonSettings Read(GoldenFile file, HyperReader hyper)
    {
        var type = ComputeTypeOf(file.Source);
        return Program(file.Source) switch
        {
            "KellerJordan/Muon@" => Keller(hyper, type),
            "MoonshotAI/Moonlight@" => Moonlight(hyper, type),
            "pytorch/pytorch@" => Torch(hyper, type),
            "microsoft/dion@" => Dion(hyper, type),
            _ => throw new AssertionException($"{file}: no Muon is known from '{file.Source}'"),
        };
    }

    // All of them work in bfloat16 as published; a file says where that was changed.
    private static DType ComputeTypeOf(string source) => Copy().Match(source) is { Success: true } copy
        ? copy.Groups[1].Value == "64" ? DType.Float64 : DType.Float32
        : DType.BFloat16;

    private static MuonSettings Keller(HyperReader hyper, DType type)
    {
        if (!hyper.Has("muon"))
        {
            return new(KellerOptions(hyper, type), hyper.Number("lr", 0.02), type);
        }

        var (muon, adam) = (hyper.Section("muon"), hyper.Section("aux_adamw"));
        AssertSays(hyper, "routing", "ndim>=2 Muon (3-D = batch of matrices over dim 0), 1-D aux AdamW");
        var (beta1, beta2) = adam.Pair("betas", 0.9, 0.95);
        return new(
            KellerOptions(muon, type),
            muon.Number("lr", 0.02),
            type,
            new AdamWOptions(beta1, beta2, adam.Number("eps", 1e-10), adam.Number("weight_decay", 0)),
            adam.Number("lr", 3e-4));
    }

    private static MuonOptions KellerOptions(HyperReader hyper, DType type)
    {
        AssertSays(hyper, "scale", "sqrt(max(1, rows/cols)) over the last two dims");
        return MuonOptions.Keller with
        {
            Momentum = hyper.Number("momentum", 0.95),
            Nesterov = hyper.Flag("nesterov", true),
            WeightDecay = hyper.Number("weight_decay", 0),
            Direction = Method(hyper, "ns", hyper.Number("ns_eps", 1e-7), NormGuard.Added, type),
        };
    }

    private static MuonSettings Moonlight(HyperReader hyper, DType type)
    {
        AssertSays(hyper, "scale", "0.2*sqrt(max(A,B))");
        AssertSays(hyper, "momentum_form", "buf = mu*buf + g");
        AssertSays(hyper, "routing", "2-D Muon, 1-D AdamW with the same lr and wd");
        var (rate, decay) = (hyper.Number("lr", 1e-3), hyper.Number("wd", 0.1));
        var (beta1, beta2) = hyper.Pair("adamw_betas", 0.9, 0.95);
        var options = MuonOptions.Moonlight with
        {
            Momentum = hyper.Number("momentum", 0.95),
            Nesterov = hyper.Flag("nesterov", true),
            WeightDecay = decay,
            Direction = Method(hyper, "ns", hyper.Number("ns_eps", 1e-7), NormGuard.Added, type),
        };
        return new(options, rate, type, new AdamWOptions(beta1, beta2, hyper.Number("adamw_eps", 1e-8), decay, CorrectEpsilon: false), rate);
    }

    private static MuonSettings Torch(HyperReader hyper, DType type)
    {
        hyper.PassOver("use_addmm");
        var options = MuonOptions.Torch with
        {
            Momentum = hyper.Number("momentum", 0.95),
            Nesterov = hyper.Flag("nesterov", true),
            WeightDecay = hyper.Number("weight_decay", 0.1),
            Direction = Method(hyper, "ns_coefficients", hyper.Number("eps", 1e-7), NormGuard.Floor, type),
            Scale = hyper.Text("adjust_lr_fn") switch
            {
                null or "original" => MuonScale.Keller,
                "match_rms_adamw" => MuonScale.MatchRms,
                var other => throw new AssertionException($"adjust_lr_fn '{other}' isn't understood"),
            },
        };
        return new(options, hyper.Number("lr", 1e-3), type);
    }

    private static MuonSettings Dion(HyperReader hyper, DType type)
    {
        hyper.PassOver("betas"); // of its AdamW, which steps nothing of a file without vectors
        var options = MuonOptions.Dion with
        {
            Momentum = hyper.Number("mu", 0.95),
            Nesterov = hyper.Flag("nesterov", false),
            WeightDecay = hyper.Number("weight_decay", 0.01),
            Direction = Method(hyper, "ns", hyper.Number("epsilon", 1e-8), NormGuard.Added, type),
            Scale = DionScale(hyper.Text("adjust_lr", "spectral_norm")),
        };
        return new(options, hyper.Number("lr", 0.01), type);
    }

    /// <summary>Dion's names of the scale rules.</summary>
    internal static MuonScale DionScale(string? name) => name switch
    {
        null or "None" => MuonScale.None,
        "spectral_norm" => MuonScale.Spectral,
        "rms_norm" => MuonScale.MatchRms,
        _ => throw new AssertionException($"adjust_lr '{name}' isn't understood"),
    };

    /// <summary>Coefficients: three numbers, or rows of three.</summary>
    internal static NewtonSchulzRow[] Rows(JsonElement table) => table[0].ValueKind == JsonValueKind.Array
        ? [.. table.EnumerateArray().SelectMany(Rows)]
        : table.GetArrayLength() == 3
            ? [new(table[0].GetDouble(), table[1].GetDouble(), table[2].GetDouble())]
            : throw new AssertionException($"a row of {table.GetArrayLength()} Newton-Schulz coefficients");

    private static NewtonSchulz Method(HyperReader hyper, string table, double epsilon, NormGuard guard, DType type) => new()
    {
        Table = hyper.Element(table) is { } rows ? Rows(rows) : NewtonSchulz.Keller.Table,
        Steps = (int)hyper.Number("ns_steps", 5),
        Epsilon = epsilon,
        Guard = guard,
        Precision = type,
    };

    // A rule that a file tells in words can only be the one that its program has.
    private static void AssertSays(HyperReader hyper, string key, string expected) =>
        Assert.That(hyper.Text(key, expected), Is.EqualTo(expected), $"setting '{key}'");

    [GeneratedRegex(@"\.bfloat16\(\) casts? replaced by a float(32|64) copy")]
    private static partial Regex Copy();
}
