using Moe.Torch;
using Moe.Torch.Kernels;
using Moe.Torch.Native;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class PairOrderTests(Device device) : KernelTests(device)
{
    [Test]
    public void Pairs_are_sorted_by_id_in_their_own_order(
        [Values(0, 1, 50, 3000)] int tokens, [Values(1, 3, 8)] int slots, [Values(1, 5, 64, 300)] int experts, [Values] bool dropping)
    {
        MustBeSorted(tokens, slots, experts, dropping);
    }

    // A block of a GPU has counters for fewer than eight warps.
    [Test]
    public void Pairs_of_many_experts_are_sorted([Values(1535, 1536, 5_000, 12_287)] int experts) => MustBeSorted(700, 3, experts, dropping: true);

    private void MustBeSorted(int tokens, int slots, int experts, bool dropping)
    {
        var (ids, chosen) = Ids(tokens, slots, experts, dropping);
        var order = PairOrder.Of(ids, experts);
        int[] kept = [.. Enumerable.Range(0, chosen.Length).Where(pair => chosen[pair] < experts).OrderBy(pair => chosen[pair])];
        Assert.That(order.Pairs.ToArray<int>()[..kept.Length], Is.EqualTo(kept));
        var places = Enumerable.Repeat(-1, chosen.Length).ToArray();
        for (var place = 0; place < kept.Length; place++)
        {
            places[kept[place]] = place;
        }

        Assert.That(order.Places.ToArray<int>(), Is.EqualTo(places));
        Assert.That(order.Counts.ToArray<long>(), Is.EqualTo(Enumerable.Range(0, experts).Select(id => chosen.LongCount(other => other == id))));
        Assert.That(order.Groups.Lengths(), Is.EqualTo(order.Counts.ToArray<long>()));
        Assert.That(order.Rows, Is.EqualTo(Place.IsCuda ? chosen.Length : kept.Length));
    }

    [Test]
    public void Rows_go_out_and_sums_come_back(
        [Values(0, 1, 37)] int tokens,
        [Values(1, 2, 6)] int slots,
        [Values(1, 7, 32, 520)] int width,
        [ValueSource(typeof(KernelTests), nameof(Types))] DType type)
    {
        var (ids, chosen) = Ids(tokens, slots, 5, dropping: true);
        var order = PairOrder.Of(ids, 5).First(chosen.LongCount(id => id < 5));
        var x = Normal(type, tokens, width);
        var rows = order.Permute(x);
        var pairs = order.Pairs.ToArray<int>();
        var from = Tensor.From(Array.ConvertAll(pairs, pair => (long)(pair / slots)), pairs.Length);
        MustBeClose(rows, Wide(x).IndexSelect(0, from), "rows");

        var (results, added) = (Normal(type, pairs.Length, width), Normal(type, tokens, width));
        var places = order.Places.ToArray<int>();
        var padded = Shaping.Concatenate([Wide(results), Tensor.Zeros([1, width], DType.Float64)]);
        var expected = padded.IndexSelect(0, Tensor.From(Array.ConvertAll(places, place => (long)(place < 0 ? pairs.Length : place)), places.Length))
            .View(tokens, slots, width).Sum(1);
        MustBeClose(order.Sum(results), expected, "sums");
        MustBeClose(order.Sum(results, added), expected + Wide(added), "sums with what is added");

        var wider = Normal(type, tokens, width + 8);
        order.SumInto(results, null, wider.Narrow(1, 0, width));
        MustBeClose(wider.Narrow(1, 0, width), expected, "sums with gaps between rows");
    }

    [Test]
    public void Rows_at_odd_addresses_go_out_and_come_back(
        [Values(8, 520)] int width, [ValueSource(typeof(KernelTests), nameof(Types))] DType type)
    {
        var (ids, chosen) = Ids(37, 6, 5, dropping: true);
        var order = PairOrder.Of(ids, 5).First(chosen.LongCount(id => id < 5));
        var (x, results, added) = (Normal(type, 37, width), Normal(type, order.Rows, width), Normal(type, 37, width));
        Assert.That(Numbers(order.Permute(AtOddAddress(x))), Is.EqualTo(Numbers(order.Permute(x))));
        Assert.That(Numbers(order.Sum(AtOddAddress(results), AtOddAddress(added))), Is.EqualTo(Numbers(order.Sum(results, added))), "the same sums in the same order");

        static double[] Numbers(Tensor values) => Wide(values).ToArray<double>();
    }

    [Test]
    public void What_stands_on_another_device_is_refused()
    {
        if (!Place.IsCuda)
        {
            Assert.Ignore("the host is one device");
        }

        var (ids, _) = Ids(4, 2, 3, dropping: false);
        var order = PairOrder.Of(ids, 3);
        var (tokens, rows, weights) = (Normal(DType.Float32, 4, 5), Normal(DType.Float32, 8, 5), Normal(DType.Float32, 4, 2));
        var plan = PackedRows.Plan(ids, 3, 3, ids.NewEmpty([3, 2]));
        var ranks = PairOrder.Of(plan.Destinations, 3);
        using var elsewhere = Tensor.Zeros([ranks.Rows, PackedRows.Stride(DType.Float32, 5, 2, withIds: true)]);
        Assert.That(() => order.SumInto(rows, null, Tensor.Zeros([4, 5])), Throws.TypeOf<TorchException>().With.Message.Contains("is on cpu"));
        Assert.That(
            () => Abi.Check(Abi.SpreadRows(tokens.LiveHandle, order.Places.LiveHandle, 2, order.Groups.Offsets!.LiveHandle, Tensor.Zeros([8, 5]).LiveHandle)),
            Throws.TypeOf<TorchException>().With.Message.Contains("is on cpu"));
        Assert.That(
            () => Abi.Check(Abi.PackRows(
                tokens.LiveHandle, weights.LiveHandle, ids.LiveHandle, plan.Destinations.LiveHandle, ranks.Pairs.LiveHandle, 1, elsewhere.LiveHandle)),
            Throws.TypeOf<TorchException>().With.Message.Contains("is on cpu"));
    }

    [Test]
    public void Rows_of_dropped_pairs_are_zeros([Values(1, 32)] int width)
    {
        var (ids, chosen) = Ids(40, 3, 4, dropping: true);
        var kept = chosen.Count(id => id < 4);
        var order = PairOrder.Of(ids, 4);
        var rows = order.Permute(Normal(DType.Float32, 40, width)).ToArray<float>();
        Assert.That(rows[(kept * width)..], Has.Length.EqualTo((order.Rows - kept) * width).And.All.Zero);
        Assert.That(rows[..(kept * width)], Has.All.Not.Zero);
    }

    [Test]
    public void Numbers_go_with_their_pairs([Values(DType.Float32, DType.Float64)] DType type)
    {
        var (ids, chosen) = Ids(40, 3, 4, dropping: true);
        var order = PairOrder.Of(ids, 4).First(chosen.LongCount(id => id < 4));
        var numbers = Normal(type, 40, 3);
        var back = Wide(order.NumbersOfPairs(order.PermuteNumbers(numbers))).ToArray<double>();
        Assert.That(back, Is.EqualTo(Wide(numbers).ToArray<double>().Select((x, pair) => chosen[pair] == 4 ? 0 : x)));
    }

    [Test]
    public void Packed_rows_take_their_choices_along_and_bring_gradients_back(
        [Values(0, 1, 40)] int tokens,
        [Values(1, 2, 5)] int slots,
        [Values(1, 2, 4)] int ranks,
        [Values(3, 16)] int width,
        [ValueSource(typeof(KernelTests), nameof(Types))] DType type)
    {
        const int Local = 3;
        var experts = ranks * Local;
        var (ids, chosen) = Ids(tokens, slots, experts, dropping: true);
        var weightType = type == DType.Float64 ? type : DType.Float32;
        var (x, weights) = (Normal(type, tokens, width), Normal(weightType, tokens, slots).Abs()); // sums don't cancel
        var plan = PackedRows.Plan(ids, experts, ranks, ids.NewEmpty([ranks, 2]));
        long[] PairsOf(int rank) => [.. Enumerable.Range(0, chosen.Length).Where(pair => chosen[pair] / Local == rank).Select(pair => (long)pair)];
        long[][] of = [.. Enumerable.Range(0, ranks).Select(PairsOf)];
        long[][] tokensOf = [.. of.Select(pairs => pairs.Select(pair => pair / slots).Distinct().ToArray())];
        Assert.That(plan.Sizes.ToArray<long>(), Is.EqualTo(of.SelectMany((pairs, rank) => new[] { tokensOf[rank].LongLength, pairs.LongLength })));

        var order = PairOrder.Of(plan.Destinations, ranks).First(tokensOf.Sum(rows => rows.LongLength));
        var packed = PackedRows.Pack(x, weights, ids, plan.Destinations, order, Local);
        var returned = new List<Tensor>();
        var start = 0L;
        for (var rank = 0; rank < ranks; rank++)
        {
            var arrived = packed.Narrow(0, start, tokensOf[rank].Length);
            start += tokensOf[rank].Length;
            var (localIds, localWeights) = PackedRows.Choices(arrived, width, slots);
            var local = PairOrder.Of(localIds, Local).First(of[rank].Length);
            long[] expected = [.. of[rank].OrderBy(pair => chosen[pair])];
            var rows = Wide(x).IndexSelect(0, Tensor.From([.. expected.Select(pair => pair / slots)], expected.Length));
            MustBeClose(local.Permute(arrived.Narrow(1, 0, width)), rows, "rows");
            var numbers = local.PermuteNumbers(localWeights);
            MustBeClose(numbers, Wide(weights).View(-1).IndexSelect(0, Tensor.From(expected, expected.Length)), "weights");
            var gradients = numbers.Unsqueeze(1).Expand(numbers.Count, width).To(type).Contiguous();
            returned.Add(PackedRows.PackGradients(gradients, numbers * 2, local));
        }

        var back = Shaping.Concatenate([.. returned]);
        var kept = Wide(weights).MaskedFill(ids.To(Device.Cpu).IsEqual(experts), 0);
        MustBeClose(PackedRows.WeightGradients(back, width, ids, plan.Destinations, order, Local, experts), kept * 2, "gradients of the weights");
        MustBeClose(order.Sum(back.Narrow(1, 0, width)), kept.Sum(1, keep: true).Expand(tokens, width), "gradients of the tokens");
    }

    private (Tensor Ids, long[] Chosen) Ids(int tokens, int slots, int experts, bool dropping)
    {
        long[] chosen = [.. Enumerable.Range(0, tokens * slots).Select(_ => dropping && Random.Next(4) == 0 ? experts : Random.NextInt64(experts))];
        return (Tensor.From(chosen, tokens, slots).To(Place), chosen);
    }
}
