using Moe.Torch;
using Moe.Training;
using Moe.Training.Configuration;

namespace Moe.Tests.Training;

/// <summary>A way to train that has to give the same on every mesh.</summary>
/// <param name="Name">For messages and files.</param>
/// <param name="Change">From <see cref="TinyRun.Config"/>.</param>
internal sealed record TopologyCase(string Name, Func<RunConfig, RunConfig> Change)
{
    /// <summary>The steps after which weights are compared: the first shows a wrong gradient, a later one wrong state.</summary>
    public static readonly int[] ComparedSteps = [1, 3];

    public static readonly TopologyCase[] All =
    [
        new("plain", c => c with { Balance = new() { Scope = BalanceScope.None } }),
        new("micro-clip", c => c with
        {
            Balance = c.Balance with { Scope = BalanceScope.Micro },
            Train = c.Train with { ClipNorm = 0.1 },
        }),
        new("sequence-shared", c => c with
        {
            Balance = c.Balance with { Scope = BalanceScope.Sequence, ZLoss = 0.1 },
            Model = c.Model with { Moe = c.Model.Moe with { SharedExperts = 2 } },
            Train = c.Train with { Accumulation = 2 },
        }),
        new("global-running", c => c with
        {
            Balance = c.Balance with { Scope = BalanceScope.Global, Accumulation = BalanceAccumulation.Running },
            Train = c.Train with { Accumulation = 2, ClipNorm = 0.1 },
        }),
        new("global-exact", c => c with
        {
            Balance = c.Balance with { Scope = BalanceScope.Global, Accumulation = BalanceAccumulation.Exact },
            Train = c.Train with { Accumulation = 2 },
        }),
        new("capacity-score", c => c with
        {
            Balance = c.Balance with { Scope = BalanceScope.Micro },
            Model = c.Model with { Moe = c.Model.Moe with { CapacityFactor = 0.75 } },
        }),
        new("capacity-position-dense", c => c with
        {
            Balance = c.Balance with { Scope = BalanceScope.Sequence },
            Model = c.Model with
            {
                DenseLayers = 1, Norm = NormPlacement.Peri, QueryKeyNorm = true,
                Moe = c.Model.Moe with { CapacityFactor = 0.75, DropPolicy = DropPolicy.Position, SharedExperts = 1 },
            },
            Train = c.Train with { Accumulation = 2, ClipNorm = 0.1 },
        }),
        new("sigmoid-bias", c => c with
        {
            Balance = new() { Scope = BalanceScope.None, BiasRate = 0.05 },
            Model = c.Model with
            {
                KeyValueHeads = 1, TieEmbeddings = true,
                Moe = c.Model.Moe with { Score = RouterScore.Sigmoid, NormalizeWeights = false, RoutedScale = 2 },
            },
            Train = c.Train with { ClipNorm = 0.1 },
        }),
        new("all-logits-equal", c => c with { Train = c.Train with { Accumulation = 2 } }) { ZeroRouters = true },
    ];

    /// <summary>Whether routers start from zero: then every expert has the same score for every token.</summary>
    public bool ZeroRouters { get; private init; }

    public static IEnumerable<Precision> Precisions => [Precision.Float64, Precision.Float32];

    /// <summary>The configuration, but for what belongs to the mesh.</summary>
    public RunConfig Config(string folder, Precision precision, ulong seed)
    {
        var config = Change(TinyRun.Config(folder, seed));
        return config with { Train = config.Train with { Precision = precision } };
    }

    /// <summary>Name of the case's oracle.</summary>
    public string OracleFile(string folder, Precision precision) => Path.Combine(folder, $"{Name}-{precision}.json");

    /// <summary>Makes the steps, and tells the numbers of each and the weights after the compared ones.</summary>
    public (StepNumbers[] Steps, Dictionary<string, double[]>[] Weights) Train(TrainingSession session)
    {
        if (ZeroRouters)
        {
            using var mode = Autograd.NoGrad();
            foreach (var parameter in session.Model.Parameters.Where(parameter => parameter.Kind == ParameterKind.Router))
            {
                parameter.Value.Zero_();
            }
        }

        List<StepNumbers> steps = [];
        List<Dictionary<string, double[]>> weights = [];
        while (steps.Count < ComparedSteps[^1])
        {
            steps.Add(StepNumbers.Of(session.Advance(stop: false)));
            if (ComparedSteps.Contains(steps.Count))
            {
                weights.Add(session.Weights());
            }
        }

        return ([.. steps], [.. weights]);
    }
}
