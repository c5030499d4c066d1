namespace Moe.Models;

/// <summary>How the rows of a micro-batch, [B S, D], stand to each other.</summary>
/// <param name="Length">S: tokens of a sequence.</param>
/// <param name="Segments">G: groups of consecutive sequences whose balance is judged together.</param>
/// <param name="CapacitySegments">Groups of consecutive sequences that share an expert's capacity.</param>
internal readonly record struct Batch(long Length, long Segments, long CapacitySegments);
