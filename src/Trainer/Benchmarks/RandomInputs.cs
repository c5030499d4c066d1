using Moe.Torch;

namespace Moe.Training.Benchmarks;

/// <summary>Tensors of random numbers for benchmarks: normal ones, drawn once and laid out from another place for each tensor.</summary>
/// <remarks>Drawing thousands of millions of them would take longer than the benchmark.</remarks>
/// <param name="seed">Of the run.</param>
/// <param name="device">Where they are to stand.</param>
internal sealed class RandomInputs(ulong seed, Device device) : IDisposable
{
    // Primes: rows of no width begin at the same number again.
    private const int Drawn = 4_194_301;
    private const int Stride = 1_000_003;

    private readonly RandomStream _numbers = new(seed, "kernel inputs");
    private Tensor? _drawn;
    private long _start;

    /// <summary>Independent of all tensors before it, as far as a benchmark can tell.</summary>
    /// <param name="shape">At least one dimension.</param>
    /// <param name="type">Floating.</param>
    /// <param name="deviation">Standard deviation; the mean is 0.</param>
    public Tensor Normal(ReadOnlySpan<long> shape, DType type, double deviation = 1)
    {
        _drawn ??= Draw();
        var result = Tensor.Empty(shape, type, device);
        using (var flat = result.View(result.Count))
        {
            _start = (_start + Stride) % Drawn;
            for (var (place, from) = (0L, _start); place < flat.Count; from = 0)
            {
                var length = Math.Min(flat.Count - place, Drawn - from);
                using var part = flat.Narrow(0, place, length);
                using var numbers = _drawn.Narrow(0, from, length);
                part.CopyFrom_(numbers);
                place += length;
            }
        }

        return deviation == 1 ? result : result.Multiply_(deviation);
    }

    /// <summary>The same as a leaf that autograd records.</summary>
    /// <inheritdoc cref="Normal"/>
    public Tensor Leaf(ReadOnlySpan<long> shape, DType type, double deviation = 1)
    {
        var leaf = Normal(shape, type, deviation);
        leaf.RequiresGrad = true;
        return leaf;
    }

    /// <summary>Integers, each equally likely.</summary>
    /// <param name="count">How many.</param>
    /// <param name="bound">Above all of them.</param>
    /// <returns>[count] int64, in host memory.</returns>
    public Tensor Below(long count, long bound)
    {
        var ids = Tensor.Empty([count], DType.Int64);
        var values = ids.Span<long>();
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = _numbers.Below(i, bound);
        }

        return ids;
    }

    /// <summary>Frees the drawn numbers.</summary>
    public void Dispose() => _drawn?.Dispose();

    private Tensor Draw()
    {
        using var scope = new TensorScope();
        var drawn = Tensor.Empty([Drawn]);
        _numbers.FillNormal(drawn.Span<float>(), 0);
        return scope.Keep(drawn.To(device)).Detached();
    }
}
