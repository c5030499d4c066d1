using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>
/// Muon on layers drawn anew for each step. The others keep weights and momentum as they are, without gradient or decay, so that their part of
/// backward, reduction and orthogonalisation is saved.
/// </summary>
/// <remarks>
/// Gruntkowska et al. 2025, https://arxiv.org/abs/2510.02239; there is no official program. A layer is a transformer block with all its experts. What the
/// paper leaves open: head and final norm always train; the embedding, at the far end of backward, trains with the first layer, and so does one that is
/// tied to the head. Through <see cref="Freezes"/> the draw also holds for what other optimizers step in a drawn layer: norms, say.
/// </remarks>
/// <param name="parameters">As for <see cref="Muon"/>.</param>
/// <param name="options">Of the steps that are made.</param>
/// <param name="draw">Which layers train; all do until the first <see cref="Begin"/>.</param>
/// <exception cref="ArgumentException">A parameter is no matrix.</exception>
public sealed class DropMuon(IReadOnlyList<LogicalParameter> parameters, MuonOptions options, LayerDraw draw) : Optimizer
{
    private readonly Muon _muon = new(parameters, options);
    private bool[] _trained = [.. Enumerable.Repeat(true, draw.Layers)];

    /// <inheritdoc/>
    public override IEnumerable<OptimizerState> State => _muon.State;

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, double> Scalars => _muon.Scalars;

    /// <inheritdoc/>
    public override long Operations => _muon.OperationsOf(_muon.Parameters.Where(parameter => !Freezes(parameter.Kind, parameter.Layer)));

    /// <inheritdoc/>
    public override void LoadScalars(IReadOnlyDictionary<string, double> scalars) => _muon.LoadScalars(scalars);

    /// <inheritdoc/>
    public override void Begin(long step) => _trained = draw.Trained(step);

    /// <inheritdoc/>
    public override bool Freezes(ParameterKind kind, int? layer) => kind == ParameterKind.Embedding ? !_trained[0] : layer is { } index && !_trained[index];

    /// <inheritdoc/>
    public override void Step(OptimizerStep step) => _muon.Step(step with
    {
        IsFrozen = parameter => Freezes(parameter.Kind, parameter.Layer) || (step.IsFrozen?.Invoke(parameter) ?? false),
    });

    /// <inheritdoc/>
    protected override void Free() => _muon.Dispose();
}
