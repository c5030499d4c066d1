namespace Moe.Training.Configuration;

/// <summary>A configuration as read: values, where each came from, and what is legal but doubtful.</summary>
/// <param name="Config">Checked as a whole; the mesh isn't known yet.</param>
/// <param name="Origins">One entry a key of the records, by full path; <c>data.domains</c> is one key.</param>
/// <param name="Warnings">Keys that are set but have no effect, and the like.</param>
public sealed record ResolvedConfig(RunConfig Config, IReadOnlyDictionary<string, ConfigOrigin> Origins, IReadOnlyList<ConfigFault> Warnings)
{
    /// <summary>
    /// A fault at the place where <paramref name="key"/> was set. Checks that need more than the file (data shorter than a sequence,
    /// a mesh that doesn't divide) collect these and throw one <see cref="ConfigException"/>.
    /// </summary>
    /// <param name="key">Full path, e.g. <c>model.sequence_length</c>.</param>
    /// <param name="what">A sentence without a full stop, with the numbers.</param>
    /// <param name="remedy">What to write instead.</param>
    public ConfigFault Fault(string key, string what, string? remedy = null) =>
        new(Origins.GetValueOrDefault(key, ConfigOrigin.Default), key, what, remedy);
}
