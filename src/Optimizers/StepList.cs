using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>The parameters that one step changes, as lists for multi-tensor updates; all lists are in the same order.</summary>
public sealed class StepList
{
    private readonly int[] _indices;
    private long[] _steps = [];
    private Tensor[]? _values;
    private Tensor[]? _gradients;

    /// <param name="parameters">All that the optimizer has.</param>
    /// <param name="indices">Those that it steps now.</param>
    internal StepList(IReadOnlyList<LogicalParameter> parameters, int[] indices)
    {
        _indices = indices;
        Parameters = Array.ConvertAll(indices, i => parameters[i]);
        Stored = Array.ConvertAll(Parameters, parameter => parameter.Value);
    }

    /// <summary>Their places among all.</summary>
    internal ReadOnlySpan<int> Indices => _indices;

    /// <summary>The update of this list where it was prepared; freed by whoever prepared it.</summary>
    public PreparedUpdate? Update { get; internal set; }

    /// <summary>Their number.</summary>
    public int Count => _indices.Length;

    /// <summary>The parameters.</summary>
    public LogicalParameter[] Parameters { get; }

    /// <summary>Their weights as they are stored.</summary>
    public Tensor[] Stored { get; }

    /// <summary>Their gradients as they stand, still to be multiplied with <see cref="LogicalParameter.GradientScale"/>.</summary>
    public Tensor[] StoredGradients => Array.ConvertAll(Parameters, parameter => parameter.Gradient);

    /// <summary>Their weights; float32 copies of bfloat16 ones, which are written back after the update.</summary>
    public Tensor[] Values => _values ??= Array.ConvertAll(Stored, Widened);

    /// <summary>Their gradients, of the type of <see cref="Values"/>. An optimizer may change them.</summary>
    public Tensor[] Gradients => _gradients ??= Array.ConvertAll(Parameters, parameter => Widened(parameter.Gradient));

    /// <summary>Updates of a parameter, this one included: the t of the papers, from 1. One that was skipped as idle does not count.</summary>
    /// <param name="i">Its place in the lists.</param>
    public long Steps(int i) => _steps[i];

    /// <summary>Picks the tensors of these parameters.</summary>
    /// <param name="state">One for each parameter that the optimizer has.</param>
    public Tensor[] Of(Tensor[] state) => state.Length == Count ? state : Array.ConvertAll(_indices, i => state[i]);

    /// <summary>A row of coefficients a parameter, for <see cref="MultiTensor.Update"/>.</summary>
    /// <param name="row">Gives the row of the parameter at a place; all rows have the same length.</param>
    public double[,] Coefficients(Func<int, double[]> row)
    {
        var first = row(0);
        var table = new double[Count, first.Length];
        for (var i = 0; i < Count; i++)
        {
            var numbers = i == 0 ? first : row(i);
            for (var j = 0; j < numbers.Length; j++)
            {
                table[i, j] = numbers[j];
            }
        }

        return table;
    }

    /// <param name="steps">[parameters]: updates of each.</param>
    /// <param name="more">Updates that these don't count yet, up to this one.</param>
    internal void TakeSteps(ReadOnlySpan<long> steps, int more = 0)
    {
        _steps = new long[Count];
        for (var i = 0; i < Count; i++)
        {
            _steps[i] = steps[_indices[i]] + more;
        }
    }

    internal void WriteBack()
    {
        for (var i = 0; i < Count; i++)
        {
            if (_values is not null && !ReferenceEquals(_values[i], Stored[i]))
            {
                Stored[i].CopyFrom_(_values[i]);
            }
        }
    }

    private static Tensor Widened(Tensor value) => value.DType == DType.BFloat16 ? value.To(DType.Float32) : value;
}
