using Moe.Training.Configuration;

namespace Moe.Training.Verification;

/// <summary>One of the comparisons that <c>verify</c> makes.</summary>
/// <param name="Name">For the table.</param>
/// <param name="Config">What both sides run.</param>
/// <param name="Bound">Largest difference allowed, relative to the largest entry of the quantity compared.</param>
internal sealed record Trial(string Name, RunConfig Config, double Bound)
{
    /// <summary>Steps of a trial; the first shows wrong gradients, the later ones wrong state.</summary>
    public const int Steps = 3;

    // Float32 carries 2^-24 = 6e-8 of rounding in each of some hundred additions in another order. Bfloat16 carries 2^-9 = 2e-3 in each
    // activation, and products over other batch sizes round differently; a router's near tie may then fall to the other expert.
    private const double Float32Bound = 1e-5;
    private const double BFloat16Bound = 2e-2;
    private const double Float64Bound = 1e-9;

    /// <summary>
    /// The configuration's own precision and dispatcher with plain SGD, which shows a wrong factor that Adam's division would hide; and its own
    /// optimizer in float64 through the reference dispatcher, where rounding cannot hide anything. Both keep weights in float32; a run that stores them in bfloat16
    /// has a third comparison, of how SGD steps and ranks share them so.
    /// </summary>
    /// <param name="shrunk">The user's configuration, made small.</param>
    public static IReadOnlyList<Trial> Of(RunConfig shrunk)
    {
        var sgd = shrunk.Optimizer with
        {
            Name = OptimizerName.Sgd,
            LearningRate = 0.5,
            Momentum = 0,
            Dampening = 0,
            Nesterov = false,
            Rules = [],
            Precondition = Precondition.None,
        };
        var bound = shrunk.Train.Precision switch
        {
            Precision.Float64 => Float64Bound,
            Precision.BFloat16 => BFloat16Bound,
            _ => Float32Bound,
        };
        // A weight that is rounded to its other neighbour may turn a near tie of the router, so that every token takes every expert here.
        var undecided = shrunk.Model with { Moe = shrunk.Model.Moe with { TopK = shrunk.Model.Moe.Experts } };
        Trial[] stored = shrunk.Train.Weights == StoredType.BFloat16
            ? [new Trial("sgd, weights in bfloat16", shrunk with { Optimizer = sgd, Model = undecided }, BFloat16Bound)]
            : [];
        return
        [
            new Trial(
                $"sgd, {Spelling(shrunk.Train.Precision)}", shrunk with { Optimizer = sgd, Train = shrunk.Train with { Weights = StoredType.Float32 } }, bound),
            new Trial(
                $"{Spelling(shrunk.Optimizer.Name)}, float64",
                shrunk with
                {
                    // Factors that are not updated in each of the few steps, and by the few tokens, would stay what they began as.
                    Optimizer = shrunk.Optimizer with { Mkor = shrunk.Optimizer.Mkor with { InverseFrequency = 1, MinTokens = 1 } },
                    Train = shrunk.Train with { Precision = Precision.Float64, Weights = StoredType.Float32 },
                    Parallel = shrunk.Parallel with { Dispatcher = DispatcherName.AllGather },
                },
                Float64Bound),
            .. stored,
        ];
    }

    private static string Spelling<T>(T value)
        where T : struct, Enum => value.ToString().ToLowerInvariant();
}
