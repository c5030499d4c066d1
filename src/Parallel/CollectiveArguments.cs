using Moe.Torch;

namespace Moe.Distributed;

/// <summary>What is checked before anything is sent: what one rank gets wrong would otherwise hang or corrupt the others.</summary>
internal static class CollectiveArguments
{
    public static long Bytes(Tensor tensor) => tensor.Count * tensor.DType.Size();

    /// <summary>Bytes of one row of axis 0; also right where there are no rows.</summary>
    public static long RowBytes(Tensor tensor)
    {
        long bytes = tensor.DType.Size();
        foreach (var length in tensor.Shape.AsSpan(1))
        {
            bytes *= length;
        }

        return bytes;
    }

    public static void RequireContiguous(Tensor tensor, string parameter)
    {
        if (!tensor.IsContiguous)
        {
            throw new ArgumentException($"{tensor} has gaps in memory; collectives need contiguous tensors", parameter);
        }
    }

    public static void RequireReducible(Tensor tensor, string parameter)
    {
        RequireContiguous(tensor, parameter);
        if (tensor.DType is not (DType.Float32 or DType.Float64 or DType.Int32 or DType.Int64))
        {
            throw new ArgumentException($"{tensor} cannot be reduced: only float32, float64, int32 and int64 can", parameter);
        }
    }

    /// <summary>Both are contiguous, and equal in type and in the shape of a row.</summary>
    public static void RequireSameRows(Tensor output, Tensor input)
    {
        RequireContiguous(output, nameof(output));
        RequireContiguous(input, nameof(input));
        if (output.Rank == 0 || input.Rank == 0 || output.DType != input.DType || !output.Shape.AsSpan(1).SequenceEqual(input.Shape.AsSpan(1)))
        {
            throw new ArgumentException($"rows of output {output} and input {input} differ in type or shape", nameof(output));
        }
    }

    public static void RequireSplits(Tensor tensor, long[] rows, int ranks, string parameter)
    {
        if (rows.Length != ranks || rows.Any(count => count < 0) || rows.Sum() != tensor.Size(0))
        {
            throw new ArgumentException(
                $"{parameter} {CollectiveCall.Folded(rows)} should be {ranks} numbers of at least 0 with the sum {tensor.Size(0)}, the rows of {tensor}",
                parameter);
        }
    }

    public static void RequireTimes(Tensor whole, Tensor part, int ranks, string parameter)
    {
        if (whole.Size(0) != ranks * part.Size(0))
        {
            throw new ArgumentException($"{whole} should have {ranks} times the {part.Size(0)} rows of {part}, one part a rank", parameter);
        }
    }

    public static void RequireRows(Tensor part, long rows, string parameter)
    {
        if (part.Size(0) != rows)
        {
            throw new ArgumentException($"{part} should have this rank's {rows} rows", parameter);
        }
    }

    public static void RequireMembers(IReadOnlyList<int> ranks, ProcessGroup group)
    {
        if (ranks.Distinct().Count() != ranks.Count || ranks.Any(rank => rank < 0 || rank >= group.Size) || !ranks.Contains(group.Rank))
        {
            throw new ArgumentException(
                $"[{string.Join(", ", ranks)}] should be different ranks of group '{group.Name}' (0 to {group.Size - 1}), rank {group.Rank} among them",
                nameof(ranks));
        }
    }
}
