namespace Moe.Data;

/// <summary>One of the texts that training mixes.</summary>
/// <param name="Name">Unique among the domains; its order of windows depends on the name, not on its place in the list.</param>
/// <param name="Tokens">Its tokens; the caller opens and disposes it.</param>
/// <param name="Weight">Its part of the samples, relative to the other domains' weights; above 0.</param>
public sealed record Domain(string Name, TokenFolder Tokens, double Weight = 1);
