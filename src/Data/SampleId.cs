namespace Moe.Data;

/// <summary>Where a training sample comes from.</summary>
/// <param name="Domain">Index into the sampler's domains.</param>
/// <param name="Start">Position of the window's first token in the domain's token folder.</param>
public readonly record struct SampleId(int Domain, long Start);
