using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>Work of one kind that a rank does in a step.</summary>
/// <param name="Kind">As in <c>experts</c>.</param>
/// <param name="Operations">In matrix products; 0 for what passes over memory.</param>
/// <param name="Bytes">Read and written by what passes over memory; 0 for products.</param>
/// <param name="Seconds">On the device, with the rank alone on its share of it.</param>
public readonly record struct WorkItem(string Kind, double Operations, double Bytes, double Seconds);

/// <summary>A matrix product.</summary>
/// <param name="Type">Of the elements: <c>float32</c>, <c>bfloat16</c>, <c>float64</c>.</param>
/// <param name="Rows">Of the result.</param>
/// <param name="Columns">Of the result.</param>
/// <param name="Depth">Products that each element sums.</param>
/// <param name="Groups">Experts whose products are made at once; 0 for a product by itself.</param>
/// <param name="IsMatrices">Whether it is the gradient of a weight, which sums over the rows.</param>
internal readonly record struct ProductShape(string Type, long Rows, long Columns, long Depth, int Groups = 0, bool IsMatrices = false);

/// <summary>Counts a rank's work of a step, operator by operator, and what it takes on a device.</summary>
internal sealed class WorkPlan
{
    private readonly PlannedModel _model;
    private readonly DeviceRecord _device;
    private readonly double _load;
    private readonly Dictionary<string, WorkItem> _items = [];
    private readonly string _type;

    private readonly Action<ProductShape>? _seen;

    private WorkPlan(PlannedModel model, DeviceRecord device, double load, Action<ProductShape>? seen)
    {
        (_model, _device, _load, _seen) = (model, device, load, seen);
        _type = ConfigChoices.Spelling(model.Config.Train.Precision);
    }

    /// <summary>The work of the rank with the most to step.</summary>
    /// <param name="model">On its mesh.</param>
    /// <param name="device">Of each rank.</param>
    /// <param name="load">Rows of the busiest rank's experts over the mean.</param>
    /// <param name="seen">Told of every matrix product.</param>
    public static IReadOnlyList<WorkItem> Of(PlannedModel model, DeviceRecord device, double load, Action<ProductShape>? seen = null)
    {
        var plan = new WorkPlan(model, device, load, seen);
        var training = model.Config.Train.Accumulation;
        plan.Layers(training, forwardsOnly: 0);
        if (model.CountsFirst)
        {
            plan.Layers(0, forwardsOnly: training);
        }

        plan.Again(training);
        plan.Head(training);
        plan.Gradients(training);
        plan.Update();
        return [.. plan._items.Values.OrderByDescending(item => item.Seconds)];
    }

    // Twice as many operations backward as forward, but for a forward whose counts are all that is wanted.
    private void Layers(double trained, double forwardsOnly)
    {
        var shape = _model.Config.Model;
        var (tokens, width) = ((double)_model.Tokens, (long)shape.Width);
        var (queries, shared) = ((long)shape.Heads * shape.HeadSize, (long)shape.KeyValueHeadCount * shape.HeadSize);
        var (layers, moeLayers) = (shape.Layers, _model.ExpertLayers);
        Linear("attention projections", layers, tokens, queries + (2 * shared), width, trained, forwardsOnly);
        Linear("attention projections", layers, tokens, width, queries, trained, forwardsOnly);
        Attention("attention", layers, trained, forwardsOnly);
        var norms = shape.Norm == NormPlacement.Peri ? 4 : 2;
        Kernel("norms", KernelKind.Norm, layers * norms * tokens * width, 8, layers * norms * 2, trained, forwardsOnly);
        if (shape.QueryKeyNorm)
        {
            Kernel("norms", KernelKind.Norm, layers * tokens * (queries + shared), 9, layers * 8, trained, forwardsOnly);
        }

        if (layers > moeLayers)
        {
            SwiGlu("dense feed-forward", layers - moeLayers, tokens, shape.DenseHiddenSize, 1, isGrouped: false, trained, forwardsOnly);
        }

        if (moeLayers > 0)
        {
            Experts(moeLayers, trained, forwardsOnly);
        }
    }

    private void Experts(int layers, double trained, double forwardsOnly)
    {
        var moe = _model.Config.Model.Moe;
        var (tokens, width, rows) = ((double)_model.Tokens, (long)_model.Config.Model.Width, (double)_model.Rows);
        Linear("router", layers, tokens, moe.Experts, width, trained, forwardsOnly, isWide: true);
        Kernel("router", KernelKind.Router, layers * tokens * moe.Experts, 3.0 * _model.WideSize / _model.ActivationSize, layers * 4, trained, forwardsOnly);
        SwiGlu("experts", layers, rows * _load / _model.LocalExperts, moe.ExpertWidth, _model.LocalExperts, isGrouped: true, trained, forwardsOnly);
        if (moe.SharedExperts > 0)
        {
            SwiGlu("shared experts", layers, tokens, moe.SharedExperts * moe.ExpertWidth, 1, isGrouped: false, trained, forwardsOnly);
        }

        // Dispatch reads and writes each row; combine reads the rows and writes their sums; each has the other as its adjoint.
        Kernel("permutation", KernelKind.Permute, layers * rows * width, 6, layers * 6, trained, forwardsOnly);
        if (_model.Mesh.Expert.Size > 1)
        {
            Kernel("permutation", KernelKind.Regroup, layers * _model.PackedRows * _load * width, 6, layers * 6, trained, forwardsOnly);
        }
    }

    private void SwiGlu(string kind, int layers, double rows, long hidden, int count, bool isGrouped, double trained, double forwardsOnly)
    {
        var width = _model.Config.Model.Width;
        if (isGrouped && _device.Kernels.TryGetValue(KernelKind.Experts, out var each))
        {
            var operations = layers * 6.0 * rows * count * hidden * width * ((3 * trained) + forwardsOnly);
            Add(kind, operations, 0, operations * each);
            return;
        }

        Product(kind, isGrouped, layers, rows, 2 * hidden, width, count, trained, forwardsOnly);
        Product(kind, isGrouped, layers, rows, width, hidden, count, trained, forwardsOnly);
        Kernel("activation", KernelKind.SwiGlu, layers * rows * count * hidden, 9, layers * 2, trained, forwardsOnly);
    }

    // A forward once more of what backward makes again: of whole layers all but the last product of the feed-forward part, which no backward asks for.
    private void Again(double passes)
    {
        const string Kind = "computed again";
        var (shape, choice) = (_model.Config.Model, MemoryChoice.Of(_model.Config));
        var dense = Math.Min(choice.Layers, shape.DenseLayers);
        var moe = choice.Layers - dense;
        var (tokens, width, rows) = ((double)_model.Tokens, (long)shape.Width, (double)_model.Rows);
        FirstProduct(Kind, dense, tokens, shape.DenseHiddenSize, 1, isGrouped: false, passes);
        FirstProduct(Kind, moe, rows * _load / _model.LocalExperts, shape.Moe.ExpertWidth, _model.LocalExperts, isGrouped: true, passes);
        FirstProduct(Kind, moe, tokens, shape.Moe.SharedExperts * shape.Moe.ExpertWidth, 1, isGrouped: false, passes);
        Kernel(Kind, KernelKind.Permute, moe * rows * width, 6, moe * 6, 0, passes / 2);
        if (choice.Recompute != Recompute.Block)
        {
            return;
        }

        var (queries, shared) = ((long)shape.Heads * shape.HeadSize, (long)shape.KeyValueHeadCount * shape.HeadSize);
        Linear(Kind, choice.Layers, tokens, queries + (2 * shared), width, 0, passes);
        Linear(Kind, choice.Layers, tokens, width, queries, 0, passes);
        Attention(Kind, choice.Layers, 0, passes);
        Kernel(Kind, KernelKind.Norm, choice.Layers * (shape.Norm == NormPlacement.Peri ? 4 : 2) * tokens * width, 8, choice.Layers * 4, 0, passes);
        if (moe > 0)
        {
            Linear(Kind, moe, tokens, shape.Moe.Experts, width, 0, passes, isWide: true);
        }
    }

    private void FirstProduct(string kind, int layers, double rows, long hidden, int count, bool isGrouped, double passes)
    {
        if (layers * hidden == 0)
        {
            return;
        }

        var width = _model.Config.Model.Width;
        Product(kind, isGrouped, layers, rows, 2 * hidden, width, count, 0, passes);
        if (MemoryChoice.Of(_model.Config).Recompute == Recompute.Block && _model.Config.Model.Norm == NormPlacement.Peri)
        {
            Product(kind, isGrouped, layers, rows, width, hidden, count, 0, passes);
        }
    }

    private void Head(double trained)
    {
        var shape = _model.Config.Model;
        var tokens = (double)_model.Tokens;
        Linear("head", 1, tokens, shape.Vocabulary, shape.Width, trained, 0);
        Kernel("norms", KernelKind.Norm, tokens * shape.Width, 8, 2, trained, 0);
        Kernel("cross-entropy", KernelKind.CrossEntropy, tokens * shape.Vocabulary, 4.0 * _model.WideSize / _model.ActivationSize, 6, trained, 0);
        Kernel("embedding", KernelKind.Embedding, tokens * shape.Width, 4, 4, trained, 0);
    }

    private void Gradients(double accumulation)
    {
        // A bucket is cleared, takes each backward's gradient, and is scaled, measured and clipped; a gradient that stays where it was made is only measured.
        foreach (var alike in _model.Buckets.GroupBy(bucket => bucket.IsDirect))
        {
            var elements = alike.Sum(bucket => (double)bucket.Count);
            var passes = alike.Key ? (3 * (accumulation - 1)) + 1 : (3 * accumulation) + 6;
            Raw("gradients", KernelKind.Gradient, elements, _model.WideSize * passes, alike.Sum(bucket => bucket.Parameters.Count) * accumulation);
        }

        var cast = _model.Parameters.Where(parameter => parameter.Kind is not (ParameterKind.Norm or ParameterKind.Router) && parameter.Value.DType.Size() != _model.ActivationSize)
            .Sum(parameter => (double)parameter.Value.Count);
        if (cast > 0)
        {
            Raw("casts", "cast", cast * accumulation, 12, 2 * _model.Parameters.Count * accumulation);
        }
    }

    private void Update()
    {
        var stepped = _model.Stepped(_model.FullestRank());
        foreach (var alike in stepped.GroupBy(matrix => (matrix.Choice, matrix.Type)))
        {
            var name = ConfigChoices.Spelling(alike.Key.Choice.Optimizer);
            var elements = alike.Sum(matrix => (double)matrix.Count);
            Raw("optimizer", KernelKind.Optimizer(name), elements, (3 * alike.Key.Type.Size()) + (2 * _model.StateOf(alike.First()).PerElement), 1);
            if (OptimizerAssignment.NeedsMatrix(alike.Key.Choice.Optimizer))
            {
                Orthogonalise(alike);
            }
        }

        foreach (var matrix in stepped.Where(matrix => !matrix.IsVector))
        {
            if (MkorAssembly.Operations(_model.Config.Optimizer, matrix.Kind, matrix.Rows, matrix.Columns) is > 0 and var operations)
            {
                Time("optimizer", operations, matrix.Rows, matrix.Columns, matrix.Columns, operations / (2.0 * matrix.Rows * matrix.Columns * matrix.Columns), "float32");
            }
        }
    }

    // Newton-Schulz: of each iteration two products with the long side and one of squares; matrices of one shape are one batch.
    private void Orthogonalise(IEnumerable<SteppedMatrix> matrices)
    {
        var options = MuonAssembly.Options(_model.Config.Optimizer);
        var direction = (NewtonSchulz)options.Direction;
        var type = direction.Precision switch
        {
            DType.Float64 => "float64",
            DType.Float32 => "float32",
            null when _model.WideSize == 8 => "float64",
            _ => "bfloat16",
        };
        foreach (var alike in matrices.GroupBy(matrix => (Short: Math.Min(matrix.Rows, matrix.Columns), Long: Math.Max(matrix.Rows, matrix.Columns))))
        {
            var (s, l) = alike.Key;
            double count = alike.Count() * direction.Steps;
            if (_device.Kernels.TryGetValue(KernelKind.NewtonSchulz, out var each))
            {
                var operations = (double)alike.Count() * direction.Operations(s, l);
                Add("optimizer", operations, 0, operations * each);
                continue;
            }

            Time("optimizer", 2.0 * s * s * l * count, s, s, l, count, type);
            Time("optimizer", 2.0 * s * l * s * count, s, l, s, count, type);
            Time("optimizer", 2.0 * s * s * s * count, s, s, s, count, type);
        }
    }

    private void Linear(string kind, int layers, double rows, long columns, long depth, double trained, double forwardsOnly, bool isWide = false) =>
        Product(kind, false, layers, rows, columns, depth, 1, trained, forwardsOnly, isWide);

    // The product itself, and for backward the gradients of its rows and of its weight.
    private void Product(
        string kind, bool isGrouped, int layers, double rows, long columns, long depth, int count, double trained, double forwardsOnly, bool isWide = false)
    {
        var size = isWide ? _model.WideSize : _model.ActivationSize;
        var type = isWide && _model.WideSize == 4 ? "float32" : _type;
        var length = (long)Math.Max(1, rows);
        var forward = Seconds(type, isGrouped, length, columns, depth, count, size);
        var operations = 2.0 * rows * columns * depth * count;
        Add(kind, layers * forwardsOnly * operations, 0, layers * forwardsOnly * forward);
        var backward = Seconds(type, isGrouped, length, depth, columns, count, size) + Seconds(type, isGrouped, columns, depth, length, count, size, isMatrices: true);
        Add(kind, 3 * layers * trained * operations, 0, layers * trained * (forward + backward));
    }

    private void Attention(string kind, int layers, double trained, double forwardsOnly)
    {
        // Scores and mixing, the causal half of each; backward makes five products of that size where forward makes two.
        const double Backward = 2.5;
        var shape = _model.Config.Model;
        var forward = 2.0 * _model.Tokens * (shape.SequenceLength + 1) * shape.Heads * shape.HeadSize;
        var operations = layers * forward * ((trained * (1 + Backward)) + forwardsOnly);
        var rate = _device.Attention.TryGetValue(_type, out var own) ? own : _device.Attention["float32"];
        Add(kind, operations, 0, (operations / rate) + (layers * ((2 * trained) + forwardsOnly) * _device.LaunchTime));
    }

    // Kernels are counted with both directions; a forward alone is about a third of the two.
    private void Kernel(string kind, string name, double elements, double sizes, double launches, double trained, double forwardsOnly)
    {
        var passes = trained + (forwardsOnly / 3);
        Raw(kind, name, elements * passes, sizes * _model.ActivationSize, launches * passes);
    }

    private void Raw(string kind, string name, double elements, double bytesPerElement, double launches) =>
        Add(kind, 0, elements * bytesPerElement, _device.KernelTime(name, elements, bytesPerElement, launches));

    private void Time(string kind, double operations, long rows, long columns, long depth, double count, string type) =>
        Add(kind, operations, 0, Seconds(type, false, rows, columns, depth, count, type == "bfloat16" ? 2 : _model.WideSize));

    private double Seconds(string type, bool isGrouped, long rows, long columns, long depth, double count, int size, bool isMatrices = false)
    {
        _seen?.Invoke(new ProductShape(type, rows, columns, depth, isGrouped ? (int)count : 0, isMatrices));
        return _device.ProductTime(type, isGrouped, rows, columns, depth, count, size);
    }

    private void Add(string kind, double operations, double bytes, double seconds)
    {
        var item = _items.GetValueOrDefault(kind);
        if (operations + bytes + seconds > 0)
        {
            _items[kind] = new WorkItem(kind, item.Operations + operations, item.Bytes + bytes, item.Seconds + seconds);
        }
    }
}
