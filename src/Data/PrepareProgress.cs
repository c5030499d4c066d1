namespace Moe.Data;

/// <summary>How far a preparation has come.</summary>
/// <param name="Document">Name of the text being read.</param>
/// <param name="Bytes">Bytes read of all texts.</param>
/// <param name="TotalBytes">Length of all texts.</param>
public readonly record struct PrepareProgress(string Document, long Bytes, long TotalBytes);
