namespace Moe.Tests.Optimizers.Golden;

/// <summary>All replays; a new optimizer is one more line.</summary>
public static class GoldenReplays
{
    /// <summary>For each file of goldens exactly one understands it.</summary>
    public static IReadOnlyList<IGoldenReplay> All { get; } =
    [
        new AdamReplay(),
        new SgdReplay(),
        new AdaBeliefReplay(),
        new LambReplay(),
        new LarsReplay(),
        new MuonReplay(),
        new DropMuonReplay(),
        new NewtonSchulzReplay(),
        new SplitProjectionReplay(),
        new MkorReplay(),
    ];
}
