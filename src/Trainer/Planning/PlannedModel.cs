using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>
/// What every rank of a mesh would hold, own and reduce: made by the code that trains, from shapes that take no memory. The ranks need not exist.
/// </summary>
public sealed class PlannedModel : IDisposable
{
    private readonly Transformer _model;
    private readonly Lazy<IReadOnlyDictionary<(OptimizerChoice, DType), StateSize>> _states;
    private readonly Lazy<int> _fullest;
    private readonly Dictionary<int, double> _avoiding; // shares of the tokens that send nothing to a certain one of so many destinations
    private readonly SteppedByRank _stepped;

    /// <param name="config">Checked by itself; <c>parallel.expert_parallel</c> is taken from here.</param>
    /// <param name="ranks">Ranks of the job, at least 1.</param>
    /// <param name="ranksPerNode">Of each node; 1 where nothing is known of nodes.</param>
    /// <exception cref="ConfigException">The ranks or the experts can't be divided so.</exception>
    public PlannedModel(RunConfig config, int ranks, int ranksPerNode = 1)
    {
        Config = config;
        ConfigRules.ValidateMesh(config, ranks);
        Mesh = new DeviceMesh(new PlannedProcessGroup(ranks), config.Parallel.ExpertParallel ?? ranks) { RanksPerNode = ranksPerNode };
        _model = ModelAssembly.Outline(config, Mesh);
        Assignment = new OptimizerAssignment(_model.Options, config.Optimizer);
        var options = OptimizerAssembly.Reduction(config);
        Owners = new ParameterOwners(Parameters, Mesh, options.Cost);
        Buckets = [.. GradientReduction.Plan(Parameters, Mesh, Owners, options)];
        Count = ParameterCount.Of(Parameters, Mesh.Expert.Size, config.Model.Moe);
        (_fullest, _avoiding, _stepped) = (new(FindFullestRank), [], new());
        DType[] types = [.. Parameters.Select(parameter => parameter.Value.DType).Distinct()];
        _states = new(() => Assignment.Choices.SelectMany(choice => types.Select(type => (choice, type))).ToDictionary(key => key, key => StateSize.Of(config, key.choice, key.type)));
    }

    private PlannedModel(PlannedModel other, TrainConfig train)
    {
        (Config, Mesh, _model, Assignment, Owners, Buckets, Count) =
            (other.Config with { Train = train }, other.Mesh, other._model, other.Assignment, other.Owners, other.Buckets, other.Count);
        (_states, _fullest, _avoiding, _stepped) = (other._states, other._fullest, other._avoiding, other._stepped);
    }

    /// <summary>What was planned for.</summary>
    public RunConfig Config { get; }

    /// <summary>The ranks, seen by rank 0.</summary>
    public DeviceMesh Mesh { get; }

    /// <summary>Of the first rank of each replica; the others' differ in expert ids only.</summary>
    public IReadOnlyList<Parameter> Parameters => _model.Parameters;

    /// <summary>Which optimizer steps what.</summary>
    public OptimizerAssignment Assignment { get; }

    /// <summary>Who steps what.</summary>
    public ParameterOwners Owners { get; }

    /// <summary>Gradients as they are reduced.</summary>
    public IReadOnlyList<GradientBucketPlan> Buckets { get; }

    /// <summary>Size of the whole model.</summary>
    public ParameterCount Count { get; }

    /// <summary>Ranks of the job.</summary>
    public int Ranks => Mesh.World.Size;

    /// <summary>Tokens of a rank's micro-batch.</summary>
    public long Tokens => (long)Config.Train.MicroBatch * Config.Model.SequenceLength;

    /// <summary>Tokens of a step over all ranks.</summary>
    public long TokensPerStep => Tokens * Config.Train.Accumulation * Ranks;

    /// <summary>Layers with experts.</summary>
    public int ExpertLayers => Math.Max(0, Config.Model.Layers - Config.Model.DenseLayers);

    /// <summary>Experts of a layer that a rank holds.</summary>
    public int LocalExperts => Config.Model.Moe.Experts / Mesh.Expert.Size;

    /// <summary>Rows that leave a rank's router in a micro-batch, where the experts are evenly loaded; as many arrive at its experts.</summary>
    public long Rows => (long)(Tokens * Config.Model.Moe.TopK * Math.Min(1, Config.Model.Moe.CapacityFactor ?? 1));

    /// <summary>
    /// Rows that a rank's tokens are packed into, those for its own experts among them: each goes once to each rank that it has an expert on, k experts
    /// being drawn evenly.
    /// </summary>
    public double PackedRows => RowsFor(Mesh.Expert.Size);

    /// <summary>The same where the experts are divided among other destinations.</summary>
    /// <param name="destinations">How many; divides the experts.</param>
    public double RowsFor(int destinations)
    {
        var (topK, experts) = (Config.Model.Moe.TopK, Config.Model.Moe.Experts);

        if (!_avoiding.TryGetValue(destinations, out var none))
        {
            // No expert of a certain destination among k of all: the k drawn one after the other from those of the others.
            none = 1.0;
            for (var drawn = 0; drawn < topK && none > 0; drawn++)
            {
                none *= Math.Max(0, experts - (experts / destinations) - drawn) / (double)(experts - drawn);
            }

            _avoiding.Add(destinations, none);
        }

        return Tokens * destinations * (1 - none);
    }

    /// <summary>Whether tokens travel over the nodes of <see cref="Mesh"/> (<see cref="TwoLevelDispatcher"/>).</summary>
    public bool GoesOverNodes => Config.Parallel.Dispatcher == DispatcherName.TwoLevel && Mesh.HasExpertNodes;

    /// <summary>Bytes of an activation.</summary>
    public int ActivationSize => Config.Train.Precision switch { Precision.BFloat16 => 2, Precision.Float64 => 8, _ => 4 };

    /// <summary>Bytes of what routers, norms and losses work in.</summary>
    public int WideSize => Config.Train.Precision == Precision.Float64 ? 8 : 4;

    /// <summary>Whether a forward without gradient counts the step's routing first (<c>balance.accumulation=exact</c>).</summary>
    public bool CountsFirst => Config.Balance is { Scope: BalanceScope.Global, Accumulation: BalanceAccumulation.Exact, Coefficient: > 0 }
        && Config.Train.Accumulation > 1 && ExpertLayers > 0;

    /// <summary>The same ranks with another batch; it lives as long as this one.</summary>
    /// <param name="microBatch">Sequences of a rank at once.</param>
    /// <param name="accumulation">Micro-batches of a rank and step.</param>
    internal PlannedModel WithBatch(int microBatch, int accumulation) =>
        new(this, Config.Train with { MicroBatch = microBatch, Accumulation = accumulation });

    /// <summary>The same ranks, which keep what is chosen; it lives as long as this one.</summary>
    internal PlannedModel With(MemoryChoice choice) => new(this, choice.In(Config.Train));

    /// <summary>What an optimizer keeps.</summary>
    internal StateSize StateOf(SteppedMatrix matrix) => _states.Value[(matrix.Choice, matrix.Type)];

    /// <summary>Logical parameters that a rank steps: those it owns where the optimizer is sharded, else all that it holds.</summary>
    /// <param name="rank">World rank.</param>
    internal IReadOnlyList<SteppedMatrix> Stepped(int rank)
    {
        if (_stepped.Matrices is null || _stepped.Rank != rank)
        {
            (_stepped.Rank, _stepped.Matrices) = (rank, [.. FindStepped(rank)]);
        }

        return _stepped.Matrices;
    }

    private IEnumerable<SteppedMatrix> FindStepped(int rank)
    {
        var replica = rank / Mesh.Expert.Size;
        foreach (var parameter in Parameters)
        {
            var owners = Owners.Of(parameter);
            var keys = parameter.Keys.Chunk(parameter.Parts.Count).ToArray();
            for (var expert = 0; expert < keys.Length; expert++)
            {
                if (Config.Parallel.ShardOptimizer && owners[expert] != (parameter.ExpertIds is null ? rank : replica))
                {
                    continue;
                }

                for (var part = 0; part < keys[expert].Length; part++)
                {
                    var columns = parameter.Value.Size(-1);
                    var isVector = parameter.Value.Rank == parameter.RowAxis + 1;
                    var rows = isVector ? 1 : parameter.Parts[part].Length;
                    yield return new SteppedMatrix(
                        keys[expert][part], parameter.Kind, rows, columns, isVector, parameter.Value.DType, Assignment.Of(keys[expert][part], parameter.Kind, isVector));
                }
            }
        }
    }

    /// <summary>Elements of a bucket that a rank owns.</summary>
    internal long OwnedOf(GradientBucketPlan bucket, int rank) =>
        bucket.Segments[bucket.Parameters[0].ExpertIds is null ? rank : rank / Mesh.Expert.Size];

    /// <summary>The world rank whose optimizer has the most elements to step.</summary>
    internal int FullestRank() => _fullest.Value;

    /// <inheritdoc/>
    public void Dispose()
    {
        _model.Dispose();
        Mesh.Dispose();
    }

    // A plan asks for one rank again and again, and of a model with many experts the list is long.
    private sealed class SteppedByRank
    {
        public int Rank { get; set; }

        public SteppedMatrix[]? Matrices { get; set; }
    }

    private int FindFullestRank()
    {
        if (!Config.Parallel.ShardOptimizer)
        {
            return 0;
        }

        var owned = new long[Ranks];
        foreach (var parameter in Parameters)
        {
            var owners = Owners.Of(parameter);
            var each = parameter.Value.Count / owners.Count;
            foreach (var owner in owners)
            {
                if (parameter.ExpertIds is null)
                {
                    owned[owner] += each;
                    continue;
                }

                for (var rank = owner * Mesh.Expert.Size; rank < (owner + 1) * Mesh.Expert.Size; rank++)
                {
                    owned[rank] += each;
                }
            }
        }

        return Array.IndexOf(owned, owned.Max());
    }
}

/// <summary>A logical parameter that a rank's optimizer steps.</summary>
/// <param name="Key">Its name.</param>
/// <param name="Kind">What it is to the model.</param>
/// <param name="Rows">1 for a vector.</param>
/// <param name="Columns">Numbers of a row.</param>
/// <param name="IsVector">Whether it has one dimension.</param>
/// <param name="Type">Of its weights.</param>
/// <param name="Choice">How it is stepped.</param>
internal readonly record struct SteppedMatrix(string Key, ParameterKind Kind, long Rows, long Columns, bool IsVector, DType Type, OptimizerChoice Choice)
{
    public long Count => Rows * Columns;
}
