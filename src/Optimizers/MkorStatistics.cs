using Moe.Distributed;
using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>
/// The row sums of all matrices that may be preconditioned, one flat vector for each group of ranks that adds them up: all ranks for what
/// every token passes, an expert's replicas for an expert. They are all that <see cref="Mkor"/> communicates.
/// </summary>
internal sealed class MkorStatistics : IDisposable
{
    private readonly List<(ProcessGroup Group, Tensor Flat)> _vectors = [];
    private readonly Dictionary<Parameter, RowSums> _sums = [];

    /// <param name="parameters">In the same order on all ranks that hold them.</param>
    /// <param name="placement">Says which ranks hold the same.</param>
    /// <param name="clip">As in <see cref="RowSums"/>.</param>
    internal MkorStatistics(IEnumerable<Parameter> parameters, ParameterPlacement placement, double clip)
    {
        using var scope = new TensorScope();
        foreach (var alike in parameters.GroupBy(placement.ReduceGroup))
        {
            var flat = Tensor.Zeros([alike.Sum(parameter => Lengths(parameter).Sum())], DType.Float64).Detached();
            _vectors.Add((alike.Key, flat));
            var start = 0L;
            foreach (var parameter in alike)
            {
                Tensor[] parts = [.. Lengths(parameter).Select(length => Cut(flat, ref start, length))];
                var experts = parameter.ExpertIds?.Length ?? 1;
                _sums.Add(parameter, new RowSums(parts[0].View(experts, -1).Detached(), parts[1].View(experts, -1).Detached(), parts[2].Detached(), clip));
            }
        }
    }

    /// <summary>Sums of a parameter; over all ranks after <see cref="Reduce"/>.</summary>
    internal RowSums this[Parameter parameter] => _sums[parameter];

    /// <summary>Starts at zero, and has backward collect until <see cref="Leave"/>.</summary>
    internal void Collect()
    {
        foreach (var (_, flat) in _vectors)
        {
            flat.Zero_();
        }

        foreach (var (parameter, sums) in _sums)
        {
            parameter.RowSums = sums;
        }
    }

    /// <summary>Has backward collect no more.</summary>
    internal void Leave()
    {
        foreach (var parameter in _sums.Keys)
        {
            parameter.RowSums = null;
        }
    }

    /// <summary>Adds up the sums and counts of all ranks. Every rank calls this.</summary>
    /// <exception cref="CommunicationException">A reduction failed.</exception>
    internal void Reduce()
    {
        foreach (var work in _vectors.ConvertAll(vector => vector.Group.Trace.Labelled("row sums", layer: null, () => vector.Group.AllReduceAsync(vector.Flat))))
        {
            work.Wait();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Leave();
        foreach (var sums in _sums.Values)
        {
            sums.Input.Dispose();
            sums.OutputGradient.Dispose();
            sums.Count.Dispose();
        }

        _vectors.ForEach(vector => vector.Flat.Dispose());
    }

    // Inputs, outputs, counts.
    private static long[] Lengths(Parameter parameter)
    {
        var experts = parameter.ExpertIds?.Length ?? 1;
        return [experts * parameter.Value.Size(-1), experts * parameter.Value.Size(-2), experts];
    }

    private static Tensor Cut(Tensor flat, ref long start, long length)
    {
        var part = flat.Narrow(0, start, length);
        start += length;
        return part;
    }
}
