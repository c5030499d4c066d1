using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Adds up every parameter's gradient over the ranks that hold it, and measures all gradients as one vector.</summary>
/// <remarks>
/// Nothing is ever averaged: losses are sums over tokens, gradients are sums over ranks, and one factor makes them means. Gradients stand
/// in flat buckets, so that few and large collectives suffice, and backward adds to them in place. Sums are in float32 (float64 for
/// float64 parameters), and so are the gradients of a bfloat16 parameter.
/// </remarks>
public sealed class GradientReduction : IDisposable
{
    // Below a megabyte the start of a collective counts; far above, the first one begins late.
    private const long DefaultBucketBytes = 4 << 20;

    private readonly ParameterPlacement _placement;
    private readonly GradientBucket[] _buckets;

    /// <param name="parameters">In the same order on all ranks; experts of the same number and shapes.</param>
    /// <param name="mesh">The ranks.</param>
    /// <param name="bucketBytes">A bucket ends before it would exceed this; a larger parameter has one of its own.</param>
    public GradientReduction(IReadOnlyList<Parameter> parameters, DeviceMesh mesh, long bucketBytes = DefaultBucketBytes)
    {
        _placement = new ParameterPlacement(mesh);
        _buckets =
        [
            .. from parameter in parameters
               group parameter by (Group: _placement.ReduceGroup(parameter), Type: SumType(parameter)) into alike
               from part in Cut(alike, bucketBytes / alike.Key.Type.Size())
               select new GradientBucket(part, alike.Key.Type, alike.Key.Group, _placement.CountsNorm(part[0])),
        ];
        Logical = [.. _buckets.SelectMany(bucket => bucket.Logical)];
    }

    /// <summary>The parameters as an optimizer steps them, with the places that <see cref="Reduce"/> leaves their gradients in.</summary>
    public IReadOnlyList<LogicalParameter> Logical { get; }

    /// <summary>Sets all gradients to zero: once a step, before its first backward.</summary>
    public void Zero()
    {
        using var mode = Autograd.NoGrad();
        Array.ForEach(_buckets, bucket => bucket.Zero());
    }

    /// <summary>Makes each gradient the sum of all ranks' gradients times <paramref name="factor"/>; one that is missing counts as zeros.</summary>
    /// <param name="factor">Usually 1 / tokens of the global batch.</param>
    /// <exception cref="CommunicationException">A reduction failed.</exception>
    public void Reduce(double factor)
    {
        using var mode = Autograd.NoGrad();
        var reductions = Array.ConvertAll(_buckets, bucket =>
        {
            bucket.Collect();
            return bucket.Group.Trace.Labelled("gradients", layer: null, () => bucket.Group.AllReduceAsync(bucket.Flat));
        });
        for (var i = 0; i < reductions.Length; i++)
        {
            reductions[i].Wait();
            _buckets[i].Flat.Multiply_(factor);
        }
    }

    /// <summary>The norm over all ranks, each logical parameter counted once; the same bits on every rank. All ranks call it, after <see cref="Reduce"/>.</summary>
    /// <exception cref="CommunicationException">The sum over the ranks failed.</exception>
    public GradientNorm MeasureNorm()
    {
        using var scope = new TensorScope();
        using var mode = Autograd.NoGrad();
        var squares = 0.0;
        foreach (var bucket in _buckets.Where(bucket => bucket.CountsNorm))
        {
            var norm = bucket.Flat.To(DType.Float64).Norm().Item();
            squares += norm * norm;
        }

        var total = Tensor.From([squares], 1);
        var group = _placement.NormGroup;
        group.Trace.Labelled("gradient norm", layer: null, () => group.AllReduceAsync(total)).Wait();
        return new GradientNorm(this, Math.Sqrt(total.Item()));
    }

    /// <summary>Frees the buckets; gradients that are views of them stay valid until they are replaced.</summary>
    public void Dispose()
    {
        foreach (var logical in Logical)
        {
            logical.Value.Dispose();
            logical.Gradient.Dispose();
        }

        Array.ForEach(_buckets, bucket => bucket.Dispose());
    }

    internal void Scale(double factor)
    {
        using var mode = Autograd.NoGrad();
        Array.ForEach(_buckets, bucket => bucket.Flat.Multiply_(factor));
    }

    internal string? FirstNotFinite() => _buckets.Select(bucket => bucket.FirstNotFinite()).FirstOrDefault(name => name is not null);

    private static DType SumType(Parameter parameter) => parameter.Value.DType == DType.Float64 ? DType.Float64 : DType.Float32;

    private static IEnumerable<List<Parameter>> Cut(IEnumerable<Parameter> parameters, long mostElements)
    {
        var part = new List<Parameter>();
        var elements = 0L;
        foreach (var parameter in parameters)
        {
            if (part.Count > 0 && elements + parameter.Value.Count > mostElements)
            {
                yield return part;
                (part, elements) = ([], 0);
            }

            part.Add(parameter);
            elements += parameter.Value.Count;
        }

        if (part.Count > 0)
        {
            yield return part;
        }
    }
}
