namespace Moe.Optimizers;

/// <summary>What happens to an expert that no token of the whole step chose.</summary>
public enum IdlePolicy
{
    /// <summary>Nothing: weights and state stay, nothing decays, and its own count of steps stands still.</summary>
    Skip,

    /// <summary>It is stepped with its gradient of zeros, as the published implementations do: Adam's step dies out, Muon's does not.</summary>
    Reference,
}
