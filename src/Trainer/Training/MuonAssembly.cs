using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>From the sections <c>optimizer.muon</c> and <c>optimizer.drop</c> to the settings of <see cref="Muon"/> and <see cref="DropMuon"/>.</summary>
internal static class MuonAssembly
{
    private const double DefaultMomentum = 0.95;

    /// <summary>The preset, with what the configuration says otherwise.</summary>
    public static MuonOptions Options(OptimizerConfig config)
    {
        var preset = Preset(config.Muon.Preset);
        return preset with
        {
            Momentum = config.Momentum ?? DefaultMomentum,
            Form = config.Muon.MomentumForm ?? preset.Form,
            Nesterov = config.Muon.Nesterov ?? preset.Nesterov,
            Scale = config.Muon.Scale ?? preset.Scale,
            Direction = Table(config.Muon, (NewtonSchulz)preset.Direction) with { Steps = config.Muon.Steps, Precision = Type(config.Muon.Precision) },
            WeightDecay = config.WeightDecay,
            Decay = config.Decay,
            Idle = config.Idle,
        };
    }

    /// <summary>Which layers Drop-Muon trains.</summary>
    public static LayerDraw Draw(RunConfig config) => config.Optimizer.Drop.Form == DropForm.Subset
        ? new SubsetDraw(config.Run.Seed, config.Model.Layers, config.Optimizer.Drop.Probability)
        : new CutDraw(config.Run.Seed, config.Model.Layers);

    private static MuonOptions Preset(MuonPreset preset) => preset switch
    {
        MuonPreset.Keller => MuonOptions.Keller,
        MuonPreset.Torch => MuonOptions.Torch,
        MuonPreset.Dion => MuonOptions.Dion,
        _ => MuonOptions.Moonlight,
    };

    // The wider norm belongs to Polar Express, and comes and goes with it.
    private static NewtonSchulz Table(MuonConfig config, NewtonSchulz preset)
    {
        var guarded = preset.Guard == NormGuard.Widened ? NewtonSchulz.Keller : preset;
        return config.Table switch
        {
            MuonTable.Keller => guarded with { Table = NewtonSchulz.Keller.Table },
            MuonTable.Quintic => guarded with { Table = NewtonSchulz.Quintic.Table },
            MuonTable.PolarExpress => NewtonSchulz.PolarExpress,
            MuonTable.Rows => guarded with { Table = [.. config.Rows.Select(row => new NewtonSchulzRow(row.A, row.B, row.C))] },
            _ => preset,
        };
    }

    private static DType? Type(Precision? precision) => precision switch
    {
        Precision.BFloat16 => DType.BFloat16,
        Precision.Float32 => DType.Float32,
        Precision.Float64 => DType.Float64,
        _ => null,
    };
}
