using Moe.Torch;

namespace Moe.Models;

/// <summary>Who is told of the rows at each matrix of a layer of experts, in backward; null where nobody asks.</summary>
/// <param name="GateUp">First projection of this rank's experts.</param>
/// <param name="Down">Their second one.</param>
/// <param name="SharedGateUp">First projection of the shared experts.</param>
/// <param name="SharedDown">Their second one.</param>
internal readonly record struct RoutedSums(RowSums? GateUp, RowSums? Down, RowSums? SharedGateUp, RowSums? SharedDown)
{
    /// <summary>Whether anybody asks for those of this rank's experts.</summary>
    internal bool AreWanted => GateUp is not null || Down is not null;

    /// <summary>Whether anybody asks for those of the shared experts.</summary>
    internal bool AreSharedWanted => SharedGateUp is not null || SharedDown is not null;
}
