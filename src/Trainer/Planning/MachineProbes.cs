using System.Collections.Concurrent;
using Moe.Distributed;
using Moe.Models;
using Moe.Optimizers;
using Moe.Torch;
using Moe.Torch.Kernels;
using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>The pieces of work by which a machine is measured: the model's own functions, forward and backward, at a configuration's shapes.</summary>
/// <remarks>A large configuration is cut to <see cref="MostElements"/> a tensor and <see cref="MostOperations"/> a product.</remarks>
internal sealed class MachineProbes : IDisposable
{
    /// <summary>Names of probes beside those of <see cref="KernelKind"/>.</summary>
    public const string Copy = "copy", Launch = "launch", Attention = "attention", Large = "large ";

    /// <summary>Read and written by a call of <see cref="Copy"/>.</summary>
    public const double CopiedBytes = 2 * (32 << 20);

    /// <summary>Operations of a call of <see cref="Large"/>.</summary>
    public const double LargeOperations = 2.0 * Side * Side * Side;

    private const int Side = 768;
    private const long MostElements = 1 << 22;
    private const long MostOfSequence = 1 << 27;
    private const double MostAttention = 2e10;
    private const double MostOperations = 1e9;
    private const long OptimizerSide = 512;

    private readonly RunConfig _config;
    private readonly DType _type;
    private readonly DType _wide;
    private readonly long _tokens;
    private readonly int _sequence;
    private readonly List<(string Name, Func<Action> Make)> _all = [];
    private readonly Dictionary<string, double> _elements = [];
    private readonly ConcurrentBag<IDisposable> _owned = [];

    /// <param name="model">On the mesh whose ranks are stood for.</param>
    public MachineProbes(PlannedModel model)
    {
        _config = model.Config;
        _type = ModelAssembly.ComputeType(_config.Train.Precision);
        _wide = _type == DType.Float64 ? DType.Float64 : DType.Float32;
        var shape = _config.Model;
        var widest = Math.Max(Math.Max(shape.Vocabulary, (shape.Heads + (2 * shape.KeyValueHeadCount)) * shape.HeadSize), 2 * shape.Moe.ExpertWidth * shape.Moe.TopK);
        var most = Math.Max(Math.Max(widest, shape.Width), shape.Moe.Experts);
        _tokens = (double)shape.SequenceLength * most > MostOfSequence
            ? Math.Max(1, MostOfSequence / most) // not one whole sequence has room
            : Math.Max(1, Math.Min(model.Tokens, MostElements / widest) / shape.SequenceLength) * shape.SequenceLength;
        _sequence = (int)Math.Min(_tokens, shape.SequenceLength);
        while (_sequence > 1 && 7.0 * _sequence * _sequence * shape.Heads * shape.HeadSize > MostAttention)
        {
            _sequence /= 2;
        }

        Products = ProductsOf(model);
        AddProducts();
        AddKernels(model);
        AddOptimizers(model);
        AddNewtonSchulz(model);
    }

    /// <summary>Every probe; made on the thread that runs it, within a scope of its own.</summary>
    public IReadOnlyList<(string Name, Func<Action> Make)> All => _all;

    /// <summary>Products that are measured.</summary>
    public IReadOnlyList<ProductShape> Products { get; }

    /// <summary>Elements that a call of a kernel's probe counts.</summary>
    public IReadOnlyDictionary<string, double> KernelElements => _elements;

    /// <summary>Causal operations of a call of <see cref="Attention"/>, forward and backward.</summary>
    public double AttentionOperations => 3.5 * 2.0 * Attended * (_sequence + 1) * _config.Model.Heads * _config.Model.HeadSize;

    // Whole sequences; one where they had to be cut.
    private long Attended => _sequence == _config.Model.SequenceLength ? _tokens : _sequence;

    /// <summary>Name of a product's probe.</summary>
    public static string Name(ProductShape shape) => $"product {shape}";

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var owned in _owned)
        {
            owned.Dispose();
        }
    }

    /// <summary>Work as long as what stands between two collectives, of products and passes over memory.</summary>
    public Action Typical() => CausalAttentionProbe();

    // Distinct ones, and of those too large to be measured in passing a smaller one of the same proportions.
    private static IReadOnlyList<ProductShape> ProductsOf(PlannedModel model)
    {
        var seen = new HashSet<ProductShape>();
        WorkPlan.Of(model, Unmeasured, load: 1, shape => seen.Add(Cut(shape)));
        return [.. seen];
    }

    private static ProductShape Cut(ProductShape shape)
    {
        while (Operations(shape) > MostOperations)
        {
            if (shape.Groups > 1)
            {
                shape = shape with { Groups = shape.Groups / 2 };
                continue;
            }

            var longest = Math.Max(shape.Rows, Math.Max(shape.Columns, shape.Depth));
            shape = longest == shape.Rows ? shape with { Rows = longest / 2 } : longest == shape.Columns ? shape with { Columns = longest / 2 } : shape with { Depth = longest / 2 };
        }

        return shape;
    }

    /// <summary>Of a call of a product's probe.</summary>
    public static double Operations(ProductShape shape) => 2.0 * shape.Rows * shape.Columns * shape.Depth * Math.Max(1, shape.Groups);

    private static DeviceRecord Unmeasured { get; } = new()
    {
        Name = "none",
        Memory = 1,
        ProcessMemory = 0,
        Peak = new Dictionary<string, double>(),
        Products = new Dictionary<string, IReadOnlyList<ProductRate>> { ["float32"] = [new(0, 0, 0, 1)] },
        Attention = new Dictionary<string, double> { ["float32"] = 1 },
        CopyRate = 1,
        LaunchTime = 0,
        Kernels = new Dictionary<string, double> { [KernelKind.NewtonSchulz] = 0 }, // measured as a whole, see AddNewtonSchulz
        InsideNode = new(1, 0),
        BetweenNodes = new(1, 0),
    };

    private static DType TypeOf(string name) => name switch { "bfloat16" => DType.BFloat16, "float64" => DType.Float64, _ => DType.Float32 };

    private static Tensor Filled(long[] shape, DType type) => Tensor.Full(shape, 0.5, type);

    private static Tensor Leaf(long[] shape, DType type)
    {
        var leaf = Filled(shape, type);
        leaf.RequiresGrad = true;
        return leaf;
    }

    private static void Differentiate(Tensor output, Tensor seed, params Tensor[] leaves)
    {
        Autograd.Backward(output, seed);
        foreach (var leaf in leaves)
        {
            leaf.Gradient = null;
        }
    }

    private void AddProducts()
    {
        foreach (var type in Products.Select(shape => shape.Type).Distinct())
        {
            _all.Add((Large + type, () => Product(new ProductShape(type, Side, Side, Side))));
        }

        foreach (var shape in Products)
        {
            _all.Add((Name(shape), () => Product(shape)));
        }
    }

    private static Action Product(ProductShape shape)
    {
        var type = TypeOf(shape.Type);
        if (shape.Groups > 0)
        {
            return Grouped(shape, type);
        }

        var (x, y, result) = (Filled([shape.Rows, shape.Depth], type), Filled([shape.Columns, shape.Depth], type), Filled([shape.Rows, shape.Columns], type));
        return () =>
        {
            using var mode = Autograd.NoGrad();
            x.MatMulInto(y.Transpose(), result);
        };
    }

    // Of a weight's gradient the rows are what is summed over, and stand in the place of the depth.
    private static Action Grouped(ProductShape shape, DType type)
    {
        var rowsOfOne = shape.IsMatrices ? shape.Depth : shape.Rows;
        var groups = RowGroups.Of([.. Enumerable.Repeat(rowsOfOne, shape.Groups)]);
        var rows = rowsOfOne * shape.Groups;
        if (shape.IsMatrices)
        {
            var (left, right) = (Filled([rows, shape.Rows], type), Filled([rows, shape.Columns], type));
            return () => GroupedProduct.Matrices(left, right, groups);
        }

        var (x, matrices) = (Filled([rows, shape.Depth], type), Filled([shape.Groups, shape.Depth, shape.Columns], type));
        return () => GroupedProduct.Rows(x, matrices, groups);
    }

    // As one kernel, where they are one: less than its parts.
    private void AddExperts(int experts)
    {
        var (width, hidden) = ((long)_config.Model.Width, (long)_config.Model.Moe.ExpertWidth);
        var rows = Math.Max(1, _tokens * _config.Model.Moe.TopK / experts);
        using var scope = new TensorScope();
        if (!ExpertKernel.Fits(Tensor.Empty([1, width], _type), Tensor.Empty([experts, 2 * hidden, width], _type), Tensor.Empty([experts, width, hidden], _type)))
        {
            return;
        }

        Kernel(KernelKind.Experts, 18.0 * rows * experts * hidden * width, () =>
        {
            var (x, gateUp, down) = (Leaf([rows * experts, width], _type), Leaf([experts, 2 * hidden, width], _type), Leaf([experts, width, hidden], _type));
            var (weights, seed, groups) = (Leaf([rows * experts], _wide), Filled([rows * experts, width], _type), RowGroups.Of([.. Enumerable.Repeat(rows, experts)]));
            return () => Differentiate(GroupedSwiGlu.Apply(x, gateUp, down, groups, weights), seed, x, gateUp, down, weights);
        });
    }

    private void AddKernels(PlannedModel model)
    {
        var shape = _config.Model;
        var (tokens, width, moe) = (_tokens, (long)shape.Width, ModelAssembly.Options(shape).Moe);
        _all.Add((Copy, () =>
        {
            var (from, to) = (Tensor.Zeros([32 << 18]), Tensor.Zeros([32 << 18]));
            return () => to.CopyFrom_(from);
        }
        ));
        _all.Add((Launch, () =>
        {
            var (x, y) = (Leaf([1], _wide), Filled([1], _wide));
            return () => Differentiate(x.Add(y).Multiply(y), y, x);
        }
        ));
        _all.Add((Attention, () => CausalAttentionProbe()));
        Kernel(KernelKind.Norm, tokens * width, () => Norm(tokens));
        Kernel(KernelKind.SwiGlu, tokens * moe.TopK * moe.ExpertWidth, () =>
        {
            const int Thin = 4; // products that cost next to nothing beside the activation
            var rows = tokens * moe.TopK;
            var (x, gateUp, down, seed) = (Leaf([rows, Thin], _type), Leaf([1, 2 * moe.ExpertWidth, Thin], _type), Leaf([1, Thin, moe.ExpertWidth], _type), Filled([rows, Thin], _type));
            var weights = Leaf([rows], _wide);
            return () => Differentiate(GroupedSwiGlu.Apply(x, gateUp, down, RowGroups.Whole(rows), weights), seed, x, gateUp, down, weights);
        });
        AddExperts(model.LocalExperts);
        Kernel(KernelKind.Router, tokens * moe.Experts, () => RouterProbe(moe));
        Kernel(KernelKind.Permute, tokens * moe.TopK * width, () => PermuteProbe(moe));
        Kernel(KernelKind.Regroup, tokens * width, () =>
        {
            var (from, to) = (Filled([tokens, width], _type), Filled([tokens, width], _type));
            return () =>
            {
                for (var pass = 0; pass < 3; pass++) // packed, unpacked and summed, each way
                {
                    to.CopyFrom_(from);
                }
            };
        });
        Kernel(KernelKind.Embedding, tokens * width, () =>
        {
            var (table, seed) = (Leaf([shape.Vocabulary, width], _wide), Filled([tokens, width], _wide));
            var ids = Tensor.From([.. Enumerable.Range(0, (int)tokens).Select(token => (long)token % shape.Vocabulary)], tokens);
            return () => Differentiate(Embedding.Apply(table, ids), seed, table);
        });
        Kernel(KernelKind.CrossEntropy, tokens * shape.Vocabulary, () =>
        {
            const int Thin = 4;
            var (hidden, head) = (Leaf([tokens, Thin], _type), Leaf([shape.Vocabulary, Thin], _wide));
            var targets = Tensor.From([.. Enumerable.Range(0, (int)tokens).Select(token => (long)token % shape.Vocabulary)], tokens);
            var one = Tensor.Full([], 1, _wide);
            return () => Differentiate(LinearCrossEntropy.Apply(hidden, head, targets), one, hidden, head);
        });
    }

    private Action Norm(long tokens)
    {
        long[] rows = [tokens, _config.Model.Width];
        var (x, change, weight, seed) = (Leaf(rows, _type), Leaf(rows, _type), Leaf([_config.Model.Width], _wide), Filled(rows, _type));
        return () =>
        {
            var (sum, normed) = ResidualNorm.Apply(x, change, weight, 1e-5);
            Autograd.Backward([sum, normed], [seed, seed]);
            (x.Gradient, change.Gradient, weight.Gradient) = (null, null, null);
        };
    }

    private Action CausalAttentionProbe()
    {
        var shape = _config.Model;
        var rotary = new RotaryTable(_sequence, shape.HeadSize, shape.RotaryBase);
        var projection = Leaf([Attended, (shape.Heads + (2L * shape.KeyValueHeadCount)) * shape.HeadSize], _type);
        var seed = Filled([Attended, (long)shape.Heads * shape.HeadSize], _type);
        return () => Differentiate(CausalAttention.Apply(projection, rotary, shape.Heads, shape.KeyValueHeadCount, _sequence), seed, projection);
    }

    private Action RouterProbe(MoeOptions moe)
    {
        var random = new Random(1);
        var logits = Tensor.From([.. Enumerable.Range(0, (int)(_tokens * moe.Experts)).Select(_ => (float)random.NextDouble())], _tokens, moe.Experts).To(_wide);
        logits.RequiresGrad = true;
        var (bias, seed, one) = (Tensor.Zeros([moe.Experts]), Filled([_tokens, moe.TopK], _wide), Tensor.Full([], 1, _wide));
        return () =>
        {
            var routing = Router.Route(logits, bias, 1, moe);
            var loss = BalanceLoss.Local([routing.Statistics]) + routing.Statistics.SquaredLogSumExp;
            Autograd.Backward([routing.Weights, loss], [seed, one]);
            logits.Gradient = null;
        };
    }

    private Action PermuteProbe(MoeOptions moe)
    {
        var random = new Random(1);
        var ids = Tensor.From([.. Enumerable.Range(0, (int)_tokens).SelectMany(_ => Chosen(random, moe))], _tokens, moe.TopK);
        var (x, weights, seed) = (Leaf([_tokens, _config.Model.Width], _type), Leaf([_tokens, moe.TopK], _wide), Filled([_tokens, _config.Model.Width], _type));
        return () =>
        {
            var dispatcher = new LocalDispatcher(moe.Experts);
            var dispatched = dispatcher.Dispatch(x, ids, weights);
            Differentiate(dispatcher.Combine(dispatched.Rows, dispatched, null), seed, x, weights);
        };
    }

    private static IEnumerable<long> Chosen(Random random, MoeOptions moe)
    {
        var first = random.Next(moe.Experts);
        return Enumerable.Range(0, moe.TopK).Select(slot => (long)((first + (slot * 7)) % moe.Experts));
    }

    // Rules that pass over memory once; what Muon adds are matrix products, and counted as such.
    private void AddOptimizers(PlannedModel model)
    {
        foreach (var choice in model.Assignment.Choices.DistinctBy(choice => choice.Optimizer).Where(choice => !OptimizerAssignment.NeedsMatrix(choice.Optimizer)))
        {
            var matrices = (int)Math.Clamp(model.Count.Total / model.Ranks / (OptimizerSide * OptimizerSide), 1, 16);
            Kernel(KernelKind.Optimizer(ConfigChoices.Spelling(choice.Optimizer)), matrices * OptimizerSide * OptimizerSide, () =>
            {
                LogicalParameter[] parameters = [.. Enumerable.Range(0, matrices).Select(i => new LogicalParameter(
                    $"probe.{i}", ParameterKind.Matrix, Filled([OptimizerSide, OptimizerSide], _wide), Filled([OptimizerSide, OptimizerSide], _wide)))];
                var optimizer = OptimizerAssembly.Build(_config, choice, parameters);
                _owned.Add(optimizer);
                return () => optimizer.Step(new OptimizerStep(1e-4, 1, 1, null, null));
            });
        }
    }

    // The shape that takes most of its operations, as a batch.
    private void AddNewtonSchulz(PlannedModel model)
    {
        const long MostBatch = 8;
        var direction = MuonAssembly.Options(_config.Optimizer).Direction;
        var most = model.Stepped(model.FullestRank()).Where(matrix => OptimizerAssignment.NeedsMatrix(matrix.Choice.Optimizer))
            .GroupBy(matrix => (matrix.Rows, matrix.Columns))
            .MaxBy(alike => alike.Count() * direction.Operations(alike.Key.Rows, alike.Key.Columns));
        if (most is null)
        {
            return;
        }

        var (rows, columns) = (Math.Min(most.Key.Rows, OptimizerSide), Math.Min(most.Key.Columns, OptimizerSide));
        var count = Math.Min(most.Count(), MostBatch);
        Kernel(KernelKind.NewtonSchulz, count * direction.Operations(rows, columns), () =>
        {
            var gradient = new RandomStream(1, "probe");
            var matrices = Tensor.Empty([count, rows, columns]);
            gradient.FillNormal(matrices.Span<float>(), 0, 0, 1);
            return () => ((NewtonSchulz)direction).Orthogonalize(matrices);
        });
    }

    private void Kernel(string name, double elements, Func<Action> make)
    {
        _all.Add((name, make));
        _elements.Add(name, elements);
    }
}
