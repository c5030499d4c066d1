using Moe.Models;
using Moe.Torch;
using Moe.Torch.Kernels;
using Moe.Training.Configuration;

namespace Moe.Training.Benchmarks;

/// <summary>The kernels of a SwiGLU over rows that are sorted by expert, part by part and as a whole.</summary>
/// <remarks>
/// Shapes: R rows of width D, E experts of hidden width F; gate_up [E, 2F, D], down [E, D, F]. An expert without rows has no weights to read; its
/// gradient is written all the same.
/// </remarks>
/// <param name="name">Of the layer: <c>experts</c>, <c>shared experts</c>, <c>feed-forward</c>.</param>
/// <param name="rowsPerExpert">[E]; one number where the layer is dense.</param>
/// <param name="hidden">F.</param>
/// <param name="isRouted">Whether rows have a router's weight.</param>
/// <param name="calls">Of a step.</param>
/// <param name="shapes">Of the rank.</param>
/// <param name="random">Makes the inputs.</param>
/// <param name="isStepped">Whether the matrices are stepped within backward, as AdamW would.</param>
internal sealed class SwiGluKernels(
    string name, long[] rowsPerExpert, long hidden, bool isRouted, double calls, KernelShapes shapes, RandomInputs random, bool isStepped)
{
    private const double Deviation = 0.02;

    private readonly RowGroups _groups = isRouted ? RowGroups.Of(rowsPerExpert).To(shapes.Device) : RowGroups.Whole(rowsPerExpert[0]);
    private readonly long _experts = rowsPerExpert.Length;
    private readonly long _rows = rowsPerExpert.Sum();
    private readonly long _width = shapes.Width;
    private readonly double _used = rowsPerExpert.Count(rows => rows > 0);

    private double WeightBytes => isRouted ? _rows * shapes.WideSize : 0;

    private double WholeOperations => 2.0 * _rows * 3 * hidden * _width;

    private double WholeForwardBytes => GateUpBytes(_used) + DownBytes(_used) + ActivationBytes;

    private double WholeBackwardBytes => GateUpBytes(_used) + DownBytes(_used) + ActivationGradientBytes
        + (isStepped ? GateUpStepBytes + DownStepBytes : GateUpBytes(_experts) + DownBytes(_experts));

    // Rows of both sides; values and means in place of the gradient.
    private double GateUpStepBytes => GateUpBytes(0) + SteppedMatrices.Bytes(_used * 2 * hidden * _width, shapes.Type, State);

    private double DownStepBytes => DownBytes(0) + SteppedMatrices.Bytes(_used * hidden * _width, shapes.Type, State);

    // As the configuration has it beside weights of the products' type.
    private DType State => shapes.Type != DType.BFloat16 ? shapes.Type : shapes.Config.Optimizer.StateType == StoredType.BFloat16 ? DType.BFloat16 : DType.Float32;

    private double ActivationBytes => (_rows * 3 * hidden * shapes.Size) + WeightBytes;

    // Reads the projection and the gradient that arrives; writes the activation again and the projection's gradient.
    private double ActivationGradientBytes => (_rows * 6 * hidden * shapes.Size) + (2 * WeightBytes);

    // Both of the above without the gradient between them, which the one writes and the other reads.
    private double DownRowsActivationBytes => DownBytes(_used) + ActivationGradientBytes - (2 * _rows * hidden * shapes.Size);

    /// <summary>Products and activation one by one, the two of backward that devices may have one kernel for, and the whole function, which is what a step calls.</summary>
    public IEnumerable<KernelBenchmark> All() => [.. Forward(), .. Backward(), .. Whole()];

    // Rows, weights and result of the two projections; the same numbers stand in every product of a pass.
    private double GateUpBytes(double experts) => shapes.Size * ((_rows * _width) + (experts * 2 * hidden * _width) + (_rows * 2 * hidden));

    private double DownBytes(double experts) => shapes.Size * ((_rows * hidden) + (experts * hidden * _width) + (_rows * _width));

    private IEnumerable<KernelBenchmark> Forward()
    {
        yield return Product("gate_up", KernelPass.Forward, 2 * hidden, _width, GateUpBytes(_used), () =>
        {
            var (x, matrices) = (Rows(_width), GateUp());
            return new KernelCall(() => GroupedProduct.Rows(x, matrices.Transpose(), _groups));
        });
        yield return Part("swiglu", FormattableString.Invariant($"[{_rows}, {2 * hidden}]"), KernelPass.Forward, ActivationBytes, 0, () =>
        {
            var (projection, weights) = (Rows(2 * hidden), RowWeights());
            return new KernelCall(() => GatedRows.Activate(projection, weights));
        });
        yield return Product("down", KernelPass.Forward, _width, hidden, DownBytes(_used), () =>
        {
            var (activation, matrices) = (Rows(hidden), Down());
            return new KernelCall(() => GroupedProduct.Rows(activation, matrices.Transpose(), _groups));
        });
    }

    private IEnumerable<KernelBenchmark> Backward()
    {
        yield return Product("down: rows", KernelPass.Backward, _width, hidden, DownBytes(_used), () =>
        {
            var (arriving, matrices) = (Rows(_width), Down());
            return new KernelCall(() => GroupedProduct.Rows(arriving, matrices, _groups));
        });
        yield return Part("swiglu", FormattableString.Invariant($"[{_rows}, {2 * hidden}]"), KernelPass.Backward, ActivationGradientBytes, 0, () =>
        {
            var (projection, weights, arriving) = (Rows(2 * hidden), RowWeights(), Rows(hidden));
            return new KernelCall(() => GatedRows.Backward(projection, weights, arriving));
        });
        yield return Product("down: rows, swiglu", KernelPass.Backward, _width, hidden, DownRowsActivationBytes, () =>
        {
            var (arriving, matrices, projection, weights) = (Rows(_width), Down(), Rows(2 * hidden), RowWeights());
            return new KernelCall(() => GroupedProduct.GatedBackward(arriving, matrices, _groups, projection, weights));
        });
        yield return Product("gate_up: rows", KernelPass.Backward, 2 * hidden, _width, GateUpBytes(_used), () =>
        {
            var (arriving, matrices) = (Rows(2 * hidden), GateUp());
            return new KernelCall(() => GroupedProduct.Rows(arriving, matrices, _groups));
        });
        yield return Product("gate_up: weights", KernelPass.Backward, 2 * hidden, _width, GateUpBytes(_experts), () =>
        {
            var (arriving, x) = (Rows(2 * hidden), Rows(_width));
            return new KernelCall(() => GroupedProduct.Matrices(arriving, x, _groups));
        });
        yield return Product("down: weights", KernelPass.Backward, _width, hidden, DownBytes(_experts), () =>
        {
            var (arriving, activation) = (Rows(_width), Rows(hidden));
            return new KernelCall(() => GroupedProduct.Matrices(arriving, activation, _groups));
        });
        if (isStepped)
        {
            yield return Product("gate_up: weights, stepped", KernelPass.Backward, 2 * hidden, _width, GateUpStepBytes, () =>
            {
                var (arriving, x, matrices) = (Rows(2 * hidden), Rows(_width), new SteppedMatrices(GateUp(), State));
                return new KernelCall(() => matrices.Step(arriving, x, _groups));
            });
            yield return Product("down: weights, stepped", KernelPass.Backward, _width, hidden, DownStepBytes, () =>
            {
                var (arriving, activation, matrices) = (Rows(_width), Rows(hidden), new SteppedMatrices(Down(), State));
                return new KernelCall(() => matrices.Step(arriving, activation, _groups));
            });
        }
    }

    private IEnumerable<KernelBenchmark> Whole()
    {
        var shape = FormattableString.Invariant($"[{_rows}, {_width}], {_experts} x {hidden}");
        yield return Part("whole", shape, KernelPass.Forward, WholeForwardBytes, WholeOperations, () =>
        {
            var (x, gateUp, down, weights) = Leaves();
            return new KernelCall(() => GroupedSwiGlu.Apply(x, gateUp, down, _groups, weights));
        }) with
        { CallsPerStep = calls };
        yield return Part("whole", shape, KernelPass.Backward, WholeBackwardBytes, 2 * WholeOperations, () =>
        {
            var (x, gateUp, down, weights) = Leaves();
            var seed = Rows(_width);
            Tensor[] leaves = weights is null ? [x, gateUp, down] : [x, gateUp, down, weights];
            var (gateUpUse, downUse) = (Use(gateUp), Use(down));
            return RecordedCalls.Backward(() => GroupedSwiGlu.Apply(x, gateUp, down, _groups, weights, gateUpUse, downUse), seed, leaves);
        }) with
        { CallsPerStep = calls };
    }

    private MatrixUse Use(Tensor matrices) => isStepped ? new SteppedMatrices(matrices, State).Use : default;

    private KernelBenchmark Product(string part, KernelPass pass, long outputs, long inputs, double bytes, Func<KernelCall> make) =>
        Part(part, FormattableString.Invariant($"[{_rows}, {inputs}] x [{_experts}, {outputs}, {inputs}]"), pass, bytes, 2.0 * _rows * outputs * inputs, make);

    private KernelBenchmark Part(string part, string shape, KernelPass pass, double bytes, double operations, Func<KernelCall> make) =>
        new($"{name}, {part}", shape, pass, bytes, operations, make);

    private Tensor Rows(long columns) => random.Normal([_rows, columns], shapes.Type);

    private Tensor? RowWeights() => isRouted ? random.Normal([_rows], shapes.Wide) : null;

    private Tensor GateUp() => random.Normal([_experts, 2 * hidden, _width], shapes.Type, Deviation);

    private Tensor Down() => random.Normal([_experts, _width, hidden], shapes.Type, Deviation);

    private (Tensor Rows, Tensor GateUp, Tensor Down, Tensor? Weights) Leaves() => (
        random.Leaf([_rows, _width], shapes.Type),
        random.Leaf([_experts, 2 * hidden, _width], shapes.Type, Deviation),
        random.Leaf([_experts, _width, hidden], shapes.Type, Deviation),
        isRouted ? random.Leaf([_rows], shapes.Wide) : null);
}
