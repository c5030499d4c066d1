using Moe.Distributed;
using Moe.Models;
using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training.Benchmarks;

/// <summary>What a step does once, behind the last backward: gradients are added up, measured and clipped, weights stepped and handed round.</summary>
/// <remarks>The model is the configured one with its initial weights, which stand for the gradients as well. A call works on all that the rank steps.</remarks>
internal sealed class OptimizerKernels : IDisposable
{
    // All of the model's memory: inputs can't be made twice.
    private const double OneSet = double.MaxValue;

    // A limit of the norm by which gradients are scaled, and stay what they are.
    private const double JustBelow = 1 - 1e-9;

    private readonly KernelShapes _shapes;
    private readonly Transformer _model;
    private readonly GradientReduction _reduction;
    private readonly Optimizer _optimizer;
    private readonly GradientBucketPlan[] _buckets;
    private readonly bool _shard;
    private readonly double _factor;

    /// <summary>Builds model and optimizer. Every rank calls this at the same time.</summary>
    /// <param name="shapes">Of the rank.</param>
    public OptimizerKernels(KernelShapes shapes)
    {
        var (config, mesh) = (shapes.Config, shapes.Mesh);
        _shapes = shapes;
        _model = ModelAssembly.Build(config, mesh, shapes.Device);
        var options = OptimizerAssembly.Reduction(config);
        _shard = options.Shard;
        _reduction = new GradientReduction(_model.Parameters, mesh, options);
        var tokens = shapes.Tokens * config.Train.Accumulation * mesh.World.Size;
        _factor = 1.0 / tokens;

        LogicalParameter[] logical = [.. _reduction.Logical.Where(parameter => !IsWithinBackward(parameter.Expert))];
        _optimizer = MkorAssembly.Over(config, OptimizerAssembly.Build(config, logical), _model.Parameters, logical, mesh, tokens);
        _optimizer.Begin(0);
        foreach (var parameter in _model.Parameters)
        {
            parameter.Value.RequiresGrad = !_optimizer.Freezes(parameter.Kind, parameter.Layer) && !IsWithinBackward(parameter.ExpertIds?.FirstOrDefault());
        }

        _buckets =
        [
            .. GradientReduction.Plan(_model.Parameters, mesh, _reduction.Owners, options)
                .Where(bucket => bucket.Parameters.Any(parameter => parameter.Value.RequiresGrad)),
        ];
    }

    private IEnumerable<GradientBucketPlan> Shared => _buckets.Where(bucket => bucket.Group.Size > 1);

    // What stays where backward left it is scaled within the optimizer's pass, and never cleared.
    private IEnumerable<GradientBucketPlan> InMemoryOfTheirOwn => _buckets.Where(bucket => !bucket.IsDirect);

    // Then a step consumes its gradients and statistics, and the next one needs new ones.
    private bool IsPreconditioned => _shapes.Config.Optimizer.Precondition != Precondition.None;

    private string Optimizer => ConfigChoices.Spelling(_shapes.Config.Optimizer.Name)
        + (IsPreconditioned ? $" behind {ConfigChoices.Spelling(_shapes.Config.Optimizer.Precondition)}, factors updated" : "");

    // As Newton-Schulz chooses it, where there is one.
    private DType ProductType => _shapes.Config.Optimizer.Names.Any(OptimizerAssignment.NeedsMatrix)
        && MuonAssembly.Options(_shapes.Config.Optimizer).Direction is NewtonSchulz direction
            ? direction.Precision ?? (_shapes.Wide == DType.Float64 ? DType.Float64 : DType.BFloat16)
            : _shapes.Wide;

    /// <summary>In the order of a step; what costs nothing on this mesh is left out. Every rank calls this at the same time.</summary>
    public IEnumerable<KernelBenchmark> All()
    {
        ReduceAll();
        KernelBenchmark?[] all = [Clearing(), Reduction(), Norm(), Clipping(), Step(), Sharing()];
        return [.. all.OfType<KernelBenchmark>().Select(kernel => kernel with { CallsPerStep = 1, Held = OneSet })];
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _optimizer.Dispose();
        _reduction.Dispose();
        _model.Dispose();
    }

    private KernelBenchmark? Clearing()
    {
        var bytes = InMemoryOfTheirOwn.Sum(Bytes);
        return bytes == 0 ? null : Update("clearing of gradients", Count(InMemoryOfTheirOwn), bytes, () => new KernelCall(_reduction.Zero));
    }

    // Each rank ends with the sums of its part, sent once for each; where all have all, the parts travel once more.
    private KernelBenchmark? Reduction()
    {
        var leaving = Shared.Sum(bucket => Bytes(bucket) * (bucket.Group.Size - 1) / bucket.Group.Size);
        return leaving == 0 ? null : Update("reduction of gradients", Count(Shared), (_shard ? 1 : 2) * leaving, () =>
        {
            Fill();
            return new KernelCall(() => _reduction.Reduce(1.0 / _shapes.Mesh.World.Size)); // gradients that all ranks have alike stay what they are
        }) with
        {
            Plain = () => InOnePiece((group, flat, own) => _shard ? group.ReduceScatterAsync(own, flat, Even(flat, group)) : group.AllReduceAsync(flat)),
        };
    }

    private KernelBenchmark Norm()
    {
        var bytes = _buckets.Sum(bucket => (double)bucket.Segments[bucket.Group.Rank] * bucket.Type.Size());
        return Update("gradient norm", _buckets.Sum(bucket => bucket.Segments[bucket.Group.Rank]), bytes, () =>
        {
            ReduceAll();
            return new KernelCall(() => _reduction.MeasureNorm());
        });
    }

    private KernelBenchmark? Clipping()
    {
        var clipped = InMemoryOfTheirOwn.Sum(bucket => _shard ? bucket.Segments[bucket.Group.Rank] : bucket.Count);
        var bytes = InMemoryOfTheirOwn.Sum(bucket => (double)(_shard ? bucket.Segments[bucket.Group.Rank] : bucket.Count) * bucket.Type.Size());
        return _shapes.Config.Train.ClipNorm == 0 || bytes == 0 ? null : Update("clipping", clipped, 2 * bytes, () =>
        {
            ReduceAll();
            var norm = _reduction.MeasureNorm();
            return new KernelCall(() => norm.Clip(norm.Norm * JustBelow));
        });
    }

    // Weights and state are read and written, gradients read; weights with a master beside them are only written.
    private KernelBenchmark Step()
    {
        var stepped = _reduction.Logical.Where(IsStepped).ToList();
        var state = _optimizer.State.Where(state => IsStepped(state.Parameter) && state.Value.DType != DType.Int64).ToList(); // without counts of steps
        var mastered = state.Where(state => state.Name == "master").Select(state => state.Key).ToHashSet();
        var bytes = stepped.Sum(parameter => ((mastered.Contains(parameter.Key) ? 1 : 2) * Bytes(parameter.Value)) + Bytes(parameter.Gradient))
            + (2 * state.Sum(state => Bytes(state.Value)));
        var step = new OptimizerStep(_shapes.Config.Optimizer.LearningRate, 1, 1, null, parameter => !IsStepped(parameter));
        return Update($"step of {Optimizer}", stepped.Sum(parameter => parameter.Value.Count), bytes, () =>
        {
            Begin();
            return new KernelCall(() => _optimizer.Step(step), BeforeStep(step));
        }) with
        {
            Operations = _optimizer.Operations,
            ProductType = ProductType,
        };
    }

    // On a device the host lists the parameters while gradients are measured.
    private Action? BeforeStep(OptimizerStep step) => IsPreconditioned ? Begin : _shapes.Device.IsCuda ? () => _optimizer.Prepare(step.IsFrozen) : null;

    private KernelBenchmark? Sharing()
    {
        var leaving = Shared.Sum(bucket => (double)bucket.Segments[bucket.Group.Rank] * bucket.Type.Size() * (bucket.Group.Size - 1));
        return !_shard || !Shared.Any() ? null : Update("sharing of weights", Count(Shared), leaving, () => new KernelCall(_reduction.ShareValues)) with
        {
            Plain = () => InOnePiece((group, flat, own) => group.AllGatherAsync(flat, own, Even(flat, group))),
        };
    }

    private static KernelBenchmark Update(string name, long count, double bytes, Func<KernelCall> make) =>
        new(name, FormattableString.Invariant($"[{count}]"), KernelPass.Update, bytes, 0, make);

    // Costs nothing behind it: `bench experts` has it.
    private bool IsWithinBackward(int? expert) => _shapes.Config.Optimizer.ExpertsInBackward && expert is not null;

    private bool IsStepped(LogicalParameter parameter) => !IsWithinBackward(parameter.Expert) && !_optimizer.Freezes(parameter.Kind, parameter.Layer);

    private static double Bytes(GradientBucketPlan bucket) => (double)bucket.Count * bucket.Type.Size();

    private static double Bytes(Tensor tensor) => (double)tensor.Count * tensor.DType.Size();

    private static long Count(IEnumerable<GradientBucketPlan> buckets) => buckets.Sum(bucket => bucket.Count);

    // As after the last backward: each gradient where backward leaves it.
    private void Fill()
    {
        using var scope = new TensorScope();
        using var mode = Autograd.NoGrad();
        _reduction.Zero();
        foreach (var value in _model.Parameters.Select(parameter => parameter.Value).Where(value => value.RequiresGrad))
        {
            if (value.Gradient is { } place)
            {
                place.CopyFrom_(value);
            }
            else
            {
                value.Gradient = value.Detach().Clone();
            }
        }
    }

    private void ReduceAll()
    {
        Fill();
        _reduction.Reduce(_factor);
    }

    // Of preconditioners, a step that updates their factors: by random rows, as many as the step has tokens.
    private void Begin()
    {
        _optimizer.Begin(0);
        var random = new RandomStream(_shapes.Config.Run.Seed, "row sums");
        foreach (var sums in _model.Parameters.Select(parameter => parameter.RowSums).OfType<RowSums>())
        {
            random.FillNormal(sums.Input.Span<double>(), 0);
            random.FillNormal(sums.OutputGradient.Span<double>(), 0);
            sums.Count.Fill_(1 / _factor);
        }

        ReduceAll();
        if (!_optimizer.ScalesGradients)
        {
            _reduction.SettleScales();
        }
    }

    private KernelCall InOnePiece(Func<ProcessGroup, Tensor, Tensor, Work> start)
    {
        var pieces = Shared.GroupBy(bucket => (bucket.Group, bucket.Type)).Select(alike =>
        {
            var (group, part) = (alike.Key.Group, (Count(alike) + alike.Key.Group.Size - 1) / alike.Key.Group.Size);
            var flat = Tensor.Zeros([part * group.Size], alike.Key.Type, _shapes.Device);
            return (Group: group, Flat: flat, Own: flat.Narrow(0, part * group.Rank, part));
        }).ToList();
        return new KernelCall(() => pieces.ConvertAll(piece => start(piece.Group, piece.Flat, piece.Own)).ForEach(work => work.Wait()));
    }

    private static long[] Even(Tensor flat, ProcessGroup group) => [.. Enumerable.Repeat(flat.Count / group.Size, group.Size)];
}
