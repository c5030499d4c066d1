using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>What a <see cref="GroupedSwiGlu"/> keeps for backward, and what it makes.</summary>
public sealed record SwiGluForm
{
    /// <summary>Keeps the rows and the first projection.</summary>
    public static readonly SwiGluForm Whole = new();

    /// <summary>Whether the first projection [R, 2F] is kept; otherwise backward makes it again.</summary>
    public bool KeepsHidden { get; init; } = true;

    /// <summary>What the rows can be gathered from again in backward, kept in their place; null to keep them.</summary>
    public RowSource? Source { get; init; }

    /// <summary>Whether the result's values are wanted; otherwise it is nothing but a place in the graph, and no product is made for it.</summary>
    public bool MakesResult { get; init; } = true;

    /// <summary>
    /// Whether a rank's experts divide their rows as where backward follows, though none may: for a pass whose numbers are to be that one's to the last bit.
    /// </summary>
    public bool PlansBackward { get; init; }

    /// <summary>Where the large ones of what is kept wait for backward; null to leave them where they are.</summary>
    public HostStore? Store { get; init; }
}
