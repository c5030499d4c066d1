namespace Moe.Distributed;

/// <summary>Where the ranks of a job meet.</summary>
/// <param name="Host">Machine of the <see cref="StoreServer"/>.</param>
/// <param name="Port">Its port.</param>
/// <param name="Meeting">Tells one job, or one attempt at it, from another in the same store.</param>
public readonly record struct StoreAddress(string Host, int Port, string Meeting = "0");
