using Moe.Data;
using Moe.Distributed;
using Moe.Models;
using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>The parts of a training on one rank, and where it stands between two steps.</summary>
public sealed class TrainingSession : IDisposable
{
    private readonly GradientReduction _reduction;
    private readonly TrainStep _step;
    private readonly Schedule _schedule;
    private readonly CheckpointWriter _writer;
    private readonly IReadOnlyList<Domain> _domains;
    private readonly Lazy<Evaluator> _evaluator;

    /// <summary>Builds model, optimizer and data of this rank, at step 0. Every rank calls this at the same time.</summary>
    /// <param name="config">Checked, also against the mesh.</param>
    /// <param name="mesh">All ranks.</param>
    /// <param name="checkpoints">Where to save.</param>
    /// <param name="sequencesPerSegment">
    /// Sequences that are balanced and capped together, where that is not a rank's micro-batch: one process that stands for several ranks
    /// reads their micro-batches as one. Null for the micro-batch.
    /// </param>
    /// <param name="device">Where this rank computes.</param>
    /// <exception cref="DataException">A domain cannot be read, or is too short.</exception>
    public TrainingSession(
        RunConfig config, DeviceMesh mesh, CheckpointFolder checkpoints, int? sequencesPerSegment = null, Device device = default)
    {
        Config = config;
        Mesh = mesh;
        _domains = DomainTokens.Open(config.Data);
        var length = config.Model.SequenceLength;
        SampleReader read = config.Data.Random
            ? new RandomSamples(config.Run.Seed, config.Model.Vocabulary).Read
            : new TrainingSampler(_domains, length, config.Data.EvalFraction, unchecked((long)config.Run.Seed)).Read;
        Batches = new TrainingBatches(read, length, new BatchPlan(config.Train.Accumulation, mesh.World.Size, config.Train.MicroBatch), mesh.World.Rank, device);
        Model = ModelAssembly.Build(config, mesh, device, note => MeasuredChoice = note);
        Device = device;
        _reduction = new GradientReduction(Model.Parameters, mesh, OptimizerAssembly.Reduction(config));
        Model.LayerLeft = _reduction.LayerLeft;
        Optimizer = MkorAssembly.Over(
            config, OptimizerAssembly.Build(config, _reduction.Logical), Model.Parameters, _reduction.Logical, mesh, Batches.TokensPerStep);
        _schedule = ModelAssembly.Schedule(config);
        _step = new TrainStep(
            Model,
            mesh,
            _reduction,
            Optimizer,
            config.Balance,
            config.Train.ClipNorm,
            sequencesPerSegment ?? config.Train.MicroBatch,
            config.Train.GraphCapture);
        _evaluator = new Lazy<Evaluator>(() => new Evaluator(
            Model, mesh.Metrics, _domains, length, config.Data.EvalFraction, config.Train.MicroBatch, config.Train.EvalSequences));
        if (config.Train.EvalEvery > 0)
        {
            _ = Evaluator; // a held-out text that is too short is refused now, not at the first evaluation
        }

        _writer = new CheckpointWriter(checkpoints, mesh, config.Train.KeepCheckpoints, device);
    }

    /// <summary>The configuration that it was built from.</summary>
    public RunConfig Config { get; }

    /// <summary>All ranks.</summary>
    public DeviceMesh Mesh { get; }

    /// <summary>Where this rank computes.</summary>
    public Device Device { get; }

    /// <summary>This rank's share of the model.</summary>
    public Transformer Model { get; }

    /// <summary>What was chosen for the model by measuring, and why; null where nothing was.</summary>
    public string? MeasuredChoice { get; private set; }

    /// <summary>What steps the model.</summary>
    public Optimizer Optimizer { get; }

    /// <summary>This rank's micro-batches.</summary>
    public TrainingBatches Batches { get; }

    /// <summary>Measures the held-out text; made on first use, as a run without evaluations needs none.</summary>
    /// <exception cref="DataException">A held-out text is shorter than a sequence.</exception>
    public Evaluator Evaluator => _evaluator.Value;

    /// <summary>How large the whole model is.</summary>
    public ParameterCount Parameters => ParameterCount.Of(Model.Parameters, Mesh.Expert.Size, Config.Model.Moe);

    /// <summary>Bytes of the buckets in which this rank's gradients stand.</summary>
    internal long GradientBytes => _reduction.Bytes;

    /// <summary>
    /// Bytes in tensors of the device at most since the last <see cref="CudaRuntime.ResetPeak"/>; with a captured graph what the allocator has held, since the graph's
    /// memory is in no tensor between two replays.
    /// </summary>
    internal long PeakDeviceBytes => _step.IsCaptured ? CudaRuntime.Memory(Device).PeakReserved : CudaRuntime.Memory(Device).Peak;

    /// <summary>Steps done.</summary>
    public long Step { get; private set; }

    /// <summary>Training samples used.</summary>
    public long ConsumedSamples { get; private set; }

    /// <summary>Training tokens used.</summary>
    public long ConsumedTokens { get; private set; }

    /// <summary>Steps without an update up to now, in a row.</summary>
    public long SkippedInARow { get; private set; }

    /// <summary>Learning rate of the last step.</summary>
    public double LearningRate { get; private set; }

    /// <summary>Makes the next step.</summary>
    /// <param name="stop">Whether this rank was asked to stop.</param>
    /// <param name="meter">What this rank measures of itself; null, on all ranks alike, where it is not wanted of this step.</param>
    public StepResult Advance(bool stop, RankMeter? meter = null)
    {
        LearningRate = _schedule.At(Step);
        var result = _step.Run(Batches, Step, ConsumedSamples, LearningRate, stop, meter);
        Step++;
        ConsumedSamples += Batches.Plan.GlobalBatch;
        ConsumedTokens += Batches.TokensPerStep;
        SkippedInARow = result.Updated ? 0 : SkippedInARow + 1;
        return result;
    }

    /// <summary>Saves a checkpoint of the current step. Every rank calls this at the same step.</summary>
    /// <returns>Its folder.</returns>
    /// <exception cref="TrainingException">A rank could not write.</exception>
    public string Save()
    {
        using var scope = new TensorScope();
        var position = new RunPosition(
            Step,
            ConsumedSamples,
            ConsumedTokens,
            Batches.Plan.GlobalBatch,
            SkippedInARow,
            Config.Run.Seed,
            Config.Optimizer.Name.ToString(),
            Optimizer.Scalars,
            DataFingerprints())
        {
            Assignment = Assignment.Names,
        };
        return _writer.Save(position, State());
    }

    /// <summary>Continues where a checkpoint stands. Every rank calls this.</summary>
    /// <param name="checkpoint">Verified before.</param>
    /// <param name="warn">Told of what differs without making the checkpoint unusable.</param>
    /// <exception cref="CheckpointException">It is of another model, optimizer or seed.</exception>
    public void Resume(CheckpointReader checkpoint, Action<string> warn)
    {
        var position = checkpoint.Manifest.Position;
        Continuation.DemandSameOptimizers(position, Config);
        if (position.Seed != Config.Run.Seed)
        {
            warn($"the checkpoint was trained with seed {position.Seed}; with seed {Config.Run.Seed} the order of samples changes from here on");
        }

        foreach (var (name, sha256) in DataFingerprints())
        {
            if (position.Data.GetValueOrDefault(name) != sha256)
            {
                warn($"the text of domain '{name}' is not the one that the checkpoint was trained on");
            }
        }

        LoadOptimizerScalars(position); // before the tensors, since an optimizer's numbers may say which it has
        var state = State();
        Mesh.World.GatherAfter(
            () =>
            {
                checkpoint.Load(state);
                return [];
            },
            Device);

        // Load has refused what the checkpoint lacks; what it has beyond this model would be left behind without a word.
        var expected = LogicalTensors();
        if (checkpoint.Manifest.Tensors.Count != expected)
        {
            throw new CheckpointException(
                $"the checkpoint holds {checkpoint.Manifest.Tensors.Count} tensors, but this model and optimizer have {expected}: it is of a run with "
                + "another model or other optimizer settings");
        }

        (Step, ConsumedSamples, ConsumedTokens, SkippedInARow) =
            (position.Step, position.ConsumedSamples, position.ConsumedTokens, position.SkippedInARow);
    }

    /// <summary>Frees model, optimizer and buffers, and closes the data; the mesh stays.</summary>
    public void Dispose()
    {
        _step.Dispose();
        Optimizer.Dispose();
        _reduction.Dispose();
        Model.Dispose();
        foreach (var domain in _domains)
        {
            domain.Tokens.Dispose();
        }
    }

    private OptimizerAssignment Assignment => new(ModelAssembly.Options(Config.Model), Config.Optimizer);

    private Dictionary<string, string> DataFingerprints() => _domains.ToDictionary(domain => domain.Name, domain => domain.Tokens.Sha256);

    private void LoadOptimizerScalars(RunPosition position)
    {
        try
        {
            Optimizer.LoadScalars(position.OptimizerScalars);
        }
        catch (ArgumentException e)
        {
            throw new CheckpointException($"the checkpoint is of a run with other optimizer settings: {e.Message}", e);
        }
    }

    // Of all ranks together.
    private long LogicalTensors() => (long)Mesh.World.AllReduce((double)State().Count(tensor => tensor.Written));

    private IEnumerable<StateTensor> State()
    {
        var weights = StateTensor.Of(_reduction.Owners, Model.Parameters).ToList();
        var written = weights.Where(weight => weight.Written).Select(weight => weight.Key).ToHashSet();
        return
        [
            .. weights,
            .. Optimizer.State.Select(state => new StateTensor($"optimizer.{state.Name}/{state.Key}", state.Value, written.Contains(state.Parameter.Key))),
            .. Model.SelectionBiases.Select(bias => new StateTensor(bias.Key, bias.Value, Mesh.World.Rank == 0)),
        ];
    }
}
