using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>A logical matrix, and its place among the matrices that are fused with it.</summary>
/// <param name="Weight">[R, C].</param>
/// <param name="Start">Its first row in the stored matrix.</param>
internal sealed record MkorPart(LogicalParameter Weight, long Start)
{
    internal long Rows => Weight.Value.Size(0);
}

/// <summary>Matrices of one layer, or of one expert, that multiply the same rows: they share the factor of their inputs.</summary>
/// <param name="Key">Of the stored matrix, with the expert: <c>layers.3.moe.experts.7.gate_up</c>.</param>
/// <param name="Stored">Where they are stored.</param>
/// <param name="Place">Index of the expert in the stored tensor; 0 without experts.</param>
/// <param name="Parts">Those that are preconditioned.</param>
/// <param name="Bias">[R] of a single part; it counts as one more column, whose input is 1.</param>
internal sealed record MkorUnit(string Key, Parameter Stored, int Place, MkorPart[] Parts, LogicalParameter? Bias)
{
    /// <summary>Columns, the bias among them.</summary>
    internal long Inputs => Stored.Value.Size(-1) + (Bias is null ? 0 : 1);

    internal long Rows => Parts.Sum(part => part.Rows);

    internal bool IsExpert => Stored.ExpertIds is not null;

    /// <summary>What must be alike for matrices to be worked as one batch.</summary>
    internal string Shape => $"{Inputs} {Bias is not null} {Parts[0].Weight.Gradient.DType} {string.Join(' ', Parts.Select(part => part.Rows))}";

    /// <summary>Rows that passed, over all ranks.</summary>
    internal double Count(MkorStatistics statistics) => statistics[Stored].Count.Span<double>()[Place];

    /// <summary>Mean of the inputs: [C], with a 1 behind for a bias.</summary>
    internal double[] InputMean(MkorStatistics statistics, double clip)
    {
        var mean = Mean(statistics, statistics[Stored].Input, 0, Stored.Value.Size(-1));
        return Bias is null ? mean : [.. mean, Math.Min(1, clip)]; // the column of ones is clipped like any other
    }

    /// <summary>Mean of the gradients at a part's outputs: [R].</summary>
    internal double[] OutputMean(MkorStatistics statistics, int part) =>
        Mean(statistics, statistics[Stored].OutputGradient, Parts[part].Start, Parts[part].Rows);

    private double[] Mean(MkorStatistics statistics, Tensor sums, long start, long length)
    {
        var count = Count(statistics);
        var values = sums.Span<double>().Slice((int)((Place * sums.Size(1)) + start), (int)length).ToArray();
        return Array.ConvertAll(values, sum => sum / count);
    }
}
