using System.Globalization;

namespace Moe.Torch;

/// <summary>What a parameter is to the model; optimizers choose their rule by it.</summary>
public enum ParameterKind
{
    Embedding,
    Head,
    Norm,
    Router,
    Matrix,
    Expert,
}

/// <summary>One of the projections that are fused into a stored matrix.</summary>
/// <param name="Name">As in <c>gate</c>; empty for a matrix that is not fused.</param>
/// <param name="Start">First row.</param>
/// <param name="Length">Rows.</param>
public readonly record struct ParameterPart(string Name, long Start, long Length);

/// <summary>A logical parameter within a stored tensor: one expert's one projection, say.</summary>
/// <param name="Key">The same on every mesh: <c>layers.3.moe.experts.7.gate</c>.</param>
/// <param name="Value">A view into the stored tensor.</param>
public readonly record struct LogicalTensor(string Key, Tensor Value);

/// <summary>
/// A trained tensor as a rank stores it, and the record of which logical parameters stand in it. Reduction, clipping, optimizers,
/// checkpoints and verification all read this record, so that none of them needs to know how a model is split.
/// </summary>
/// <remarks>A logical parameter is a whole matrix or vector of the unsplit model; its key names it on every mesh.</remarks>
public sealed class Parameter
{
    /// <param name="name">Of the stored tensor: <c>layers.3.moe.experts.gate_up</c>.</param>
    /// <param name="value">A leaf of shape [R, C] or [C], or [E, R, C] for E stacked experts.</param>
    /// <param name="kind">What it is to the model.</param>
    /// <param name="expertIds">Global ids of the experts along axis 0; null for a parameter that every rank holds whole.</param>
    /// <param name="parts">Fused projections along the row axis, in order and without gaps; null where it is one matrix.</param>
    /// <exception cref="ArgumentException">Ids or parts don't fit the shape.</exception>
    public Parameter(string name, Tensor value, ParameterKind kind, int[]? expertIds = null, IReadOnlyList<ParameterPart>? parts = null)
    {
        if (expertIds is not null && expertIds.Length != value.Size(0))
        {
            throw new ArgumentException($"'{name}' stacks {value.Size(0)} experts, but {expertIds.Length} ids are given", nameof(expertIds));
        }

        RowAxis = expertIds is null ? 0 : 1;
        var rows = value.Size(RowAxis);
        Parts = parts ?? [new ParameterPart("", 0, rows)];
        if (Parts.Sum(part => part.Length) != rows)
        {
            throw new ArgumentException($"'{name}' has {rows} rows, but its parts have {Parts.Sum(part => part.Length)}", nameof(parts));
        }

        Name = name;
        Value = value;
        Kind = kind;
        ExpertIds = expertIds;
        value.RequiresGrad = true;
    }

    /// <summary>Name of the stored tensor, unique in the model.</summary>
    public string Name { get; }

    /// <summary>The stored tensor; a leaf of the graph.</summary>
    public Tensor Value { get; }

    /// <summary>What it is to the model.</summary>
    public ParameterKind Kind { get; }

    /// <summary>Global ids of the experts along axis 0; null for a parameter that every rank holds whole.</summary>
    public int[]? ExpertIds { get; }

    /// <summary>Fused projections along <see cref="RowAxis"/>; a single one without a name where nothing is fused.</summary>
    public IReadOnlyList<ParameterPart> Parts { get; }

    /// <summary>The axis of the rows: 1 behind stacked experts, else 0.</summary>
    public int RowAxis { get; }

    /// <summary>Where backward adds up the rows that pass this weight, for whoever set it; null while nobody asks, and then at no cost.</summary>
    public RowSums? RowSums { get; set; }

    /// <summary>Takes its gradient within backward, for whoever set it; null where the gradient is left in the value's <see cref="Tensor.Gradient"/>. Experts only.</summary>
    public IGradientTaker? GradientTaker { get; set; }

    /// <summary>Index of the layer that it belongs to, the N of <c>layers.N.</c>; null for embedding, final norm and head.</summary>
    public int? Layer => Name.Split('.') is ["layers", var index, ..] ? int.Parse(index, CultureInfo.InvariantCulture) : null;

    /// <summary>Keys of the logical parameters, in the order of <see cref="Logical"/>.</summary>
    public IEnumerable<string> Keys =>
        from expert in ExpertIds ?? [-1]
        from part in Parts
        select Key(expert, part);

    /// <summary>The logical parameters within a tensor of <see cref="Value"/>'s shape: the value itself, its gradient, an optimizer's moment.</summary>
    /// <param name="stored">Of the shape of <see cref="Value"/>.</param>
    /// <returns>Views, owned by the scope that is open while they are enumerated.</returns>
    public IEnumerable<LogicalTensor> Logical(Tensor stored)
    {
        for (var expert = 0; expert < (ExpertIds?.Length ?? 1); expert++)
        {
            foreach (var part in Parts)
            {
                var matrix = ExpertIds is null ? stored : stored.Select(0, expert);
                var view = Parts.Count == 1 ? matrix : matrix.Narrow(0, part.Start, part.Length);
                yield return new LogicalTensor(Key(ExpertIds is null ? -1 : ExpertIds[expert], part), view);
            }
        }
    }

    // "layers.3.moe.experts.gate_up" holds "layers.3.moe.experts.7.gate"; "layers.0.attention.qkv" holds "layers.0.attention.query".
    private string Key(int expert, ParameterPart part)
    {
        var dot = Name.LastIndexOf('.');
        var (path, last) = dot < 0 ? ("", Name) : (Name[..(dot + 1)], Name[(dot + 1)..]);
        return path + (expert < 0 ? "" : $"{expert}.") + (part.Name.Length == 0 ? last : part.Name);
    }
}
