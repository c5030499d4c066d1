using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// The slow reference of dispatch: every rank sees every rank's tokens and results, and takes what concerns it. Made of plain recorded
/// operators around one all-gather, so that it shares nothing with what it is compared with.
/// </summary>
/// <param name="group">The ranks that hold all experts between them, of one replica; stays the caller's.</param>
/// <param name="experts">E, a multiple of the group's size.</param>
public sealed class AllGatherDispatcher(ProcessGroup group, int experts) : TokenDispatcher(experts, group.Size, group.Rank)
{
    private protected override Dispatched Route(Tensor tokens, Tensor expertIds, Tensor weights)
    {
        var slots = expertIds.Size(1);
        var most = MostTokens(tokens.Size(0));
        var ids = GatherIds(expertIds, most);
        long[] choices = [.. Enumerable.Range(0, ids.Length).Where(pair => ids[pair] < Experts).OrderBy(pair => ids[pair])]; // a stable sort
        long[][] ofRank = [.. Enumerable.Range(0, group.Size).Select(rank => choices.Where(pair => ids[pair] / LocalExperts == rank).ToArray())];

        var mine = ofRank[group.Rank];
        var everyToken = new GatherFunction(group, most, "moe.dispatch").Apply(tokens)[0];
        var rows = everyToken.IndexSelect(0, Tensor.From(Array.ConvertAll(mine, pair => pair / slots), mine.Length).To(tokens.Device));
        var kept = weights.To(WeightType(tokens)).MaskedFill(expertIds.IsEqual(Experts), 0);
        var everyWeight = new GatherFunction(group, most, "moe.dispatch").Apply(kept)[0];
        var rowWeights = everyWeight.View(-1).IndexSelect(0, Tensor.From(Array.ConvertAll(mine, pair => (long)pair), mine.Length).To(tokens.Device));
        var rowsPerExpert = new long[LocalExperts];
        foreach (var pair in mine)
        {
            rowsPerExpert[ids[pair] - FirstExpert]++;
        }

        var shape = expertIds.Shape;
        return new Dispatched(
            this,
            rows,
            rowWeights,
            RowGroups.Of(rowsPerExpert).To(tokens.Device),
            tokens.Size(0),
            (results, added) => Join(results, added, shape, ofRank, group.Rank * most * slots));
    }

    private long MostTokens(long tokens)
    {
        using var all = Tensor.Empty([group.Size], DType.Int64);
        using var own = Tensor.From([tokens], 1);
        group.AllGather(all, own);
        return all.ToArray<long>().Max();
    }

    /// <returns>[ranks * most * k]; E where a rank has fewer tokens.</returns>
    private long[] GatherIds(Tensor expertIds, long most)
    {
        using var scope = new TensorScope();
        var own = Tensor.Full([most, expertIds.Size(1)], Experts, DType.Int64, expertIds.Device);
        own.Narrow(0, 0, expertIds.Size(0)).CopyFrom_(expertIds);
        var all = own.NewEmpty([group.Size * most, expertIds.Size(1)]);
        group.AllGather(all, own);
        return all.ToArray<long>();
    }

    /// <param name="results">[R, D] of this rank's experts.</param>
    /// <param name="added">[T, D]; null for nothing.</param>
    /// <param name="choices">[T, k].</param>
    /// <param name="ofRank">For each rank, the pairs that its rows stand for, in order.</param>
    /// <param name="firstPair">The first of this rank's own pairs.</param>
    private Tensor Join(Tensor results, Tensor? added, long[] choices, long[][] ofRank, long firstPair)
    {
        var most = ofRank.Max(pairs => pairs.Length);
        var nowhere = (long)group.Size * most; // the place of a row of zeros, for dropped choices
        var places = new long[choices[0] * choices[1]];
        Array.Fill(places, nowhere);
        for (var rank = 0; rank < ofRank.Length; rank++)
        {
            for (var row = 0; row < ofRank[rank].Length; row++)
            {
                var pair = ofRank[rank][row] - firstPair;
                if (pair >= 0 && pair < places.Length)
                {
                    places[pair] = ((long)rank * most) + row;
                }
            }
        }

        var width = results.Size(1);
        var everyRow = new GatherFunction(group, most, "moe.combine").Apply(results)[0];
        var chosen = Shaping.Concatenate([everyRow, results.NewZeros([1, width])]).IndexSelect(0, Tensor.From(places, places.Length).To(results.Device));
        var sum = chosen.View(choices[0], choices[1], width).To(WeightType(results)).Sum(1).To(results.DType); // of [T, k, D]
        return added is null ? sum : sum + added;
    }

    /// <summary>Rows [n, D] of each rank, n differing, -> [ranks * most, D], zeros where a rank has fewer.</summary>
    private sealed class GatherFunction(ProcessGroup group, long most, string purpose) : Function
    {
        private readonly int? _layer = group.Trace.Layer;
        private long _rows;
        private long[] _shape = [];
        private DType _type;

        protected override Tensor[] Forward(Tensor[] inputs)
        {
            (_rows, _type) = (inputs[0].Size(0), inputs[0].DType);
            _shape = [group.Size * most, inputs[0].Size(1)];
            using var own = inputs[0].NewZeros([most, _shape[1]]);
            using var filled = own.Narrow(0, 0, _rows).CopyFrom_(inputs[0]);
            var all = own.NewEmpty(_shape);
            group.Trace.Labelled(purpose, _layer, () => group.AllGatherAsync(all, own)).Wait();
            return [all];
        }

        protected override Tensor?[] Backward(Tensor?[] outputGradients)
        {
            var sumType = _type == DType.Float64 ? DType.Float64 : DType.Float32;
            var gradient = outputGradients[0]!.To(sumType).Contiguous();
            var own = gradient.NewEmpty([most, _shape[1]]);
            group.Trace.Labelled($"{purpose}.backward", _layer, () => group.ReduceScatterAsync(own, gradient)).Wait();
            return [own.Narrow(0, 0, _rows).To(_type)];
        }
    }
}
