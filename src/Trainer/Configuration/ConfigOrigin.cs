namespace Moe.Training.Configuration;

/// <summary>Where a value comes from: a place in a file, a <c>--set</c> option, or the record's default.</summary>
/// <param name="Source">Path of the file as the user gave it, <c>--set</c>, or <c>default</c>.</param>
/// <param name="Line">From 1; 0 where the source has no lines.</param>
/// <param name="Column">From 1; 0 where the source has no lines.</param>
public readonly record struct ConfigOrigin(string Source, int Line = 0, int Column = 0)
{
    /// <summary>The value is the record's initializer.</summary>
    public static readonly ConfigOrigin Default = new("default");

    /// <summary>The value comes from an option of the command line.</summary>
    public static readonly ConfigOrigin Set = new("--set");

    /// <summary>Whether nobody set the value.</summary>
    public bool IsDefault => this == Default;

    /// <summary><c>file:line:column</c>, as compilers print it and editors follow it.</summary>
    public string Location => Line == 0 ? Source : $"{Source}:{Line}:{Column}";

    /// <summary><c>file:line</c>, <c>--set</c> or <c>default</c>.</summary>
    public override string ToString() => Line == 0 ? Source : $"{Source}:{Line}";
}
