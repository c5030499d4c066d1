using Moe.Models;
using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Training.Benchmarks;

/// <summary>Embedding, norms, projections, rotary embedding and attention.</summary>
/// <remarks>Shapes: T = B S tokens of width D, H query heads, K key and value heads, h numbers a head.</remarks>
/// <param name="shapes">Of the rank.</param>
/// <param name="random">Makes the inputs.</param>
internal sealed class AttentionKernels(KernelShapes shapes, RandomInputs random) : IDisposable
{
    // Backward makes five products of the size of which forward makes two.
    private const double BackwardOperations = 2.5;

    private readonly long _tokens = shapes.Tokens;
    private readonly long _width = shapes.Width;
    private readonly long _queries = (long)shapes.Model.Heads * shapes.Model.HeadWidth;
    private readonly long _fused = ((long)shapes.Model.Heads + (2L * shapes.Model.KeyValueHeads)) * shapes.Model.HeadWidth;
    private readonly int _length = shapes.Model.SequenceLength;
    private readonly RotaryTable _rotary = new(shapes.Model.SequenceLength, shapes.Model.HeadWidth, shapes.Model.RotaryBase);

    // Scores and mixing over the keys up to each query's own.
    private double CausalOperations => 2.0 * _tokens * (_length + 1) * _queries;

    private double FusedBytes => shapes.Size * _tokens * _fused;

    private double MixedBytes => shapes.Size * _tokens * _queries;

    /// <summary>In the order of a step, embedding first.</summary>
    public IEnumerable<KernelBenchmark> All()
    {
        var linear = new LinearKernels(shapes, random);
        return
        [
            .. Embedding(),
            .. Norms(),
            .. linear.Products("qkv projection", _tokens, _fused, _width, shapes.LayerCalls),
            .. shapes.Model.QueryKeyNorm ? HeadNorms() : [],
            .. Rotary(),
            .. shapes.Device.IsCuda ? OnDevice() : OnHost(),
            .. linear.Products("output projection", _tokens, _width, _queries, shapes.LayerCalls),
            .. linear.Casts("projections", (_fused + _queries) * _width, shapes.LayerCalls),
        ];
    }

    /// <summary>Frees the rotary angles.</summary>
    public void Dispose() => _rotary.Dispose();

    // The gradient is a whole matrix, whichever tokens there were.
    private IEnumerable<KernelBenchmark> Embedding()
    {
        long[] table = [shapes.Model.Vocabulary, _width];
        var ids = random.Below(_tokens, table[0]);
        var distinct = ids.ToArray<long>().Distinct().Count();
        var onDevice = ids.To(shapes.Device);
        var shape = FormattableString.Invariant($"[{_tokens}] of [{table[0]}, {_width}]");
        var rows = shapes.Size * _tokens * _width;
        var stored = shapes.Stored.Size();
        yield return new KernelBenchmark(
            "embedding", shape, KernelPass.Forward, (sizeof(long) * _tokens) + (stored * (double)distinct * _width) + rows, 0, () =>
        {
            var own = random.Normal(table, shapes.Stored);
            return new KernelCall(() => Models.Embedding.Apply(own, onDevice).To(shapes.Type));
        })
        { CallsPerStep = shapes.MicroBatches, Held = stored * (double)table[0] * _width };
        yield return new KernelBenchmark(
            "embedding", shape, KernelPass.Backward, (sizeof(long) * _tokens) + rows + (stored * (double)table[0] * _width), 0, () =>
        {
            var own = random.Leaf(table, shapes.Stored);
            return RecordedCalls.Backward(() => Models.Embedding.Apply(own, onDevice).To(shapes.Type), random.Normal([_tokens, _width], shapes.Type), own);
        })
        { CallsPerStep = shapes.MicroBatches };
    }

    // Two norms a layer and the final one, all of sums but the first; with peri norms two more a layer, of no sum.
    private IEnumerable<KernelBenchmark> Norms()
    {
        var ofSums = 2 * shapes.LayerCalls;
        var others = shapes.MicroBatches + (shapes.Model.Norm == Models.NormPlacement.Peri ? ofSums : 0);
        return NormOf("norm of residual sum", _tokens, _width, ofSums, isOfSum: true).Concat(NormOf("norm", _tokens, _width, others, isOfSum: false));
    }

    private IEnumerable<KernelBenchmark> HeadNorms() =>
        NormOf("norm of query heads", _tokens * shapes.Model.Heads, shapes.Model.HeadWidth, shapes.LayerCalls, isOfSum: false)
            .Concat(NormOf("norm of key heads", _tokens * shapes.Model.KeyValueHeads, shapes.Model.HeadWidth, shapes.LayerCalls, isOfSum: false));

    // Backward reads what was normed and the gradient of the norm, and of a sum the sum's own beside it.
    private IEnumerable<KernelBenchmark> NormOf(string name, long rows, long width, double calls, bool isOfSum)
    {
        var (pass, column) = (shapes.Size * rows * width, shapes.WideSize * width);
        var inverse = shapes.WideSize * rows;
        var shape = FormattableString.Invariant($"[{rows}, {width}]");
        var epsilon = shapes.Model.NormEpsilon;
        yield return new KernelBenchmark(name, shape, KernelPass.Forward, ((isOfSum ? 4 : 2) * pass) + column + inverse, 0, () =>
        {
            var (x, weight) = (Rows(), Weight());
            var change = isOfSum ? Rows() : null;
            return new KernelCall(() => _ = change is null ? RmsNormKernel.Forward(x, weight, epsilon).Normed : RmsNormKernel.Forward(x, change, weight, epsilon).Normed);
        })
        { CallsPerStep = calls };
        yield return new KernelBenchmark(name, shape, KernelPass.Backward, ((isOfSum ? 4 : 3) * pass) + (2 * column) + inverse, 0, () =>
        {
            var (x, weight, arriving) = (Rows(), Weight(), Rows());
            var beside = isOfSum ? Rows() : null;
            var inverses = RmsNormKernel.Forward(x, weight, epsilon).Inverse;
            return new KernelCall(() => RmsNormKernel.Backward(arriving, beside, x, weight, inverses, ofRows: true, ofWeight: true));
        })
        { CallsPerStep = calls };

        Tensor Rows() => random.Normal([rows, width], shapes.Type);
        Tensor Weight() => random.Normal([width], shapes.Wide);
    }

    // On the host attention turns the heads itself.
    private IEnumerable<KernelBenchmark> Rotary()
    {
        var shape = FormattableString.Invariant($"[{_tokens}, {_fused}]");
        var bytes = (2 * FusedBytes) + (shapes.WideSize * _length * shapes.Model.HeadWidth);
        var calls = shapes.Device.IsCuda ? shapes.LayerCalls : 0;
        yield return new KernelBenchmark("rotary heads", shape, KernelPass.Forward, bytes, 0, () =>
        {
            var projection = random.Normal([_tokens, _fused], shapes.Type);
            return new KernelCall(() => Heads(projection));
        })
        { CallsPerStep = calls };
        yield return new KernelBenchmark("rotary heads", shape, KernelPass.Backward, bytes, 0, () =>
        {
            var (query, key, value) = Heads(random.Normal([_tokens, _fused], shapes.Type));
            var projection = random.Leaf([_tokens, _fused], shapes.Type);
            (Tensor Query, Tensor Key, Tensor Value)? heads = null;
            return new KernelCall(
                () =>
                {
                    var (ofQuery, ofKey, ofValue) = heads!.Value;
                    Autograd.Backward([ofQuery, ofKey, ofValue], [query, key, value]);
                    projection.Gradient = null;
                },
                () => heads = Heads(projection));
        })
        { CallsPerStep = calls };
    }

    private (Tensor Query, Tensor Key, Tensor Value) Heads(Tensor projection) =>
        RotaryHeads.Apply(projection, _rotary, shapes.Model.Heads, shapes.Model.KeyValueHeads, _length);

    private IEnumerable<KernelBenchmark> OnHost()
    {
        var leafShape = (long[])[_tokens, _fused];
        var logSums = shapes.WideSize * _tokens * shapes.Model.Heads;
        yield return Attention(KernelPass.Forward, FusedBytes + MixedBytes + logSums, CausalOperations, () =>
        {
            var projection = random.Leaf(leafShape, shapes.Type);
            return new KernelCall(() => Attend(projection));
        });
        yield return Attention(KernelPass.Backward, (2 * FusedBytes) + (2 * MixedBytes) + logSums, BackwardOperations * CausalOperations, () =>
        {
            var projection = random.Leaf(leafShape, shapes.Type);
            return RecordedCalls.Backward(() => Attend(projection), random.Normal([_tokens, _queries], shapes.Type), projection);
        });
    }

    private Tensor Attend(Tensor projection) => CausalAttention.Apply(projection, _rotary, shapes.Model.Heads, shapes.Model.KeyValueHeads, _length);

    private IEnumerable<KernelBenchmark> OnDevice()
    {
        var logSums = shapes.WideSize * _tokens * shapes.Model.Heads;
        yield return Attention(KernelPass.Forward, FusedBytes + MixedBytes + logSums, CausalOperations, () =>
        {
            var (query, key, value) = HeadLeaves();
            return new KernelCall(() => AttendHeads(query, key, value));
        });
        yield return Attention(KernelPass.Backward, (2 * FusedBytes) + (2 * MixedBytes) + logSums, BackwardOperations * CausalOperations, () =>
        {
            var (query, key, value) = HeadLeaves();
            return RecordedCalls.Backward(() => AttendHeads(query, key, value), random.Normal([_tokens, _queries], shapes.Type), query, key, value);
        });
    }

    private KernelBenchmark Attention(KernelPass pass, double bytes, double operations, Func<KernelCall> make) =>
        new("attention", FormattableString.Invariant($"{_tokens / _length} x {_length}, {shapes.Model.Heads} heads of {shapes.Model.HeadWidth}"), pass, bytes, operations, make)
        {
            CallsPerStep = shapes.LayerCalls,
        };

    private (Tensor Query, Tensor Key, Tensor Value) HeadLeaves()
    {
        return (Of(shapes.Model.Heads), Of(shapes.Model.KeyValueHeads), Of(shapes.Model.KeyValueHeads));

        Tensor Of(long heads) => random.Leaf([_tokens / _length, _length, heads, shapes.Model.HeadWidth], shapes.Type);
    }

    private Tensor AttendHeads(Tensor query, Tensor key, Tensor value) =>
        LinearAlgebra.CausalAttention(query.Transpose(1, 2), key.Transpose(1, 2), value.Transpose(1, 2)).Transpose(1, 2).Reshape(_tokens, _queries);
}
