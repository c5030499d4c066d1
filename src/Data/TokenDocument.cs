namespace Moe.Data;

/// <summary>One text file within a token folder, and the state of that file when it was read.</summary>
/// <param name="Name">Path from the parent of the named source, with '/': "corpus/a/b.txt", or "kjv.txt" where the file itself was named.</param>
/// <param name="Offset">Position of its first token in the folder.</param>
/// <param name="Tokens">Length in tokens, at least 1.</param>
/// <param name="Bytes">Length of the file.</param>
/// <param name="Modified">Last write of the file, UTC.</param>
/// <param name="Sha256">Of the file's bytes, lower-case hexadecimal.</param>
public sealed record TokenDocument(string Name, long Offset, long Tokens, long Bytes, DateTime Modified, string Sha256);
