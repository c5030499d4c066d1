namespace Moe.Models;

/// <summary>Who uses what backward makes at each matrix of a layer of experts.</summary>
/// <param name="GateUp">First projection of this rank's experts.</param>
/// <param name="Down">Their second one.</param>
/// <param name="SharedGateUp">First projection of the shared experts.</param>
/// <param name="SharedDown">Their second one.</param>
internal readonly record struct RoutedUses(MatrixUse GateUp, MatrixUse Down, MatrixUse SharedGateUp, MatrixUse SharedDown)
{
    /// <summary>Whether anybody asks for the rows of this rank's experts.</summary>
    internal bool WantSums => GateUp.Sums is not null || Down.Sums is not null;

    /// <summary>Whether anybody asks for those of the shared experts.</summary>
    internal bool WantSharedSums => SharedGateUp.Sums is not null || SharedDown.Sums is not null;
}
