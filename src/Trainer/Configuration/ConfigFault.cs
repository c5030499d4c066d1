namespace Moe.Training.Configuration;

/// <summary>One thing wrong (or, as a warning, doubtful) in a configuration: where it stands, which key, what, and what to write instead.</summary>
/// <param name="Origin">Where the value was given; <see cref="ConfigOrigin.Default"/> when no file or option says it.</param>
/// <param name="Key">Full path, e.g. <c>model.moe.experts</c>; empty where the fault concerns a file as a whole.</param>
/// <param name="What">A sentence without a full stop that names the key's value and the numbers involved.</param>
/// <param name="Remedy">The nearest valid key or the valid values, as a phrase to follow "what"; null where the sentence says it.</param>
public sealed record ConfigFault(ConfigOrigin Origin, string Key, string What, string? Remedy = null)
{
    /// <summary>The compiler-like line shown to the user: <c>file:line:column: what; remedy</c>.</summary>
    public override string ToString() =>
        (Origin.IsDefault ? "" : $"{Origin.Location}: ") + What + (Remedy is null ? "" : $"; {Remedy}");
}
