using Moe.Distributed;
using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>
/// Dispatch, experts and combine as one function, whose exchanges are laid over its own work: the rows of a chunk of tokens travel while the experts work on the
/// one before, and the shared experts work while the first chunk travels.
/// </summary>
/// <remarks>
/// Shapes: x [T, D], weights [T, k], gate_up [E, 2F, D], down [E, D, F]; shared gate_up [1, 2S, D], shared down [1, D, S]. Backward goes through the chunks in the
/// same order; a chunk's gradients travel back while those of its matrices are made. The parts of a matrix's gradient are added in the order of the chunks
/// (<see cref="GradientTotal"/>). Where the rows that will arrive don't fit this rank's memory, its experts work on them in blocks and make again in backward
/// what does not fit (<see cref="ExpertBlockPlan"/>), which is this rank's matter alone: the exchanges are the same.
/// </remarks>
internal sealed class RoutedFeedForward : Function
{
    private const int X = 0, Weights = 1, GateUp = 2, Down = 3, SharedGateUp = 4, SharedDown = 5;

    private readonly ExchangingDispatcher _dispatcher;
    private readonly Tensor _ids; // [T, k]
    private readonly long _slots; // k
    private readonly string _name;
    private readonly RoutedUses _uses;
    private readonly SwiGluForm _form;
    private readonly RoutedCourse? _known;
    private readonly Func<Tensor, Tensor>? _keep;
    private RoutedCourse? _course;
    private Tensor[] _matrices = []; // as the inputs from GateUp on
    private TokenRoute[] _routes = [];
    private ExpertBlock[][] _blocks = []; // of each chunk
    private ExpertBlockPlan _plan = null!;
    private SwiGluRows? _shared;
    private long[] _shape = []; // of x
    private DType _type;
    private DType _weightsType;

    private RoutedFeedForward(
        ExchangingDispatcher dispatcher, Tensor ids, string name, RoutedUses uses, SwiGluForm form, RoutedCourse? known, Func<Tensor, Tensor>? keep) =>
        (_dispatcher, _ids, _slots, _name, _uses, _form, _known, _keep) = (dispatcher, ids, ids.Size(1), name, uses, form, known, keep);

    /// <summary>[T, D]: the chosen experts' outputs by weight, and the shared ones'.</summary>
    /// <param name="dispatcher">The way to the experts.</param>
    /// <param name="x">[T, D].</param>
    /// <param name="routing">Where the tokens go.</param>
    /// <param name="matrices">gate_up and down of this rank's experts, and then of the shared ones where there are any; of x's type.</param>
    /// <param name="uses">Who uses what backward makes at each matrix.</param>
    /// <param name="name">The layer's experts, for messages.</param>
    /// <param name="form">What it keeps and makes; left out, all.</param>
    /// <param name="course">Of an earlier application to the same choices, whose sizes are then not exchanged again; null to find it.</param>
    /// <param name="keep">Keeps a tensor until a later application; null where none will ask for the course.</param>
    /// <returns>[T, D], and the course where it is kept.</returns>
    /// <exception cref="ExpertMemoryException">What will arrive fits in no way.</exception>
    /// <exception cref="CommunicationException">An exchange failed.</exception>
    internal static (Tensor Result, RoutedCourse? Course) Apply(
        ExchangingDispatcher dispatcher,
        Tensor x,
        Routing routing,
        Tensor[] matrices,
        RoutedUses uses,
        string name,
        SwiGluForm? form = null,
        RoutedCourse? course = null,
        Func<Tensor, Tensor>? keep = null)
    {
        using var span = Spans.Open("dispatch"); // what lies within it and is another part has a span of its own
        var function = new RoutedFeedForward(dispatcher, routing.ExpertIds, name, uses, form ?? SwiGluForm.Whole, course, keep);
        return (function.Apply([x, routing.Weights, .. matrices])[0], function._course);
    }

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        using var scope = new TensorScope();
        (_shape, _type, _weightsType) = (inputs[X].Shape, inputs[X].DType, inputs[Weights].DType);
        _matrices = Array.ConvertAll(inputs[GateUp..], Save);
        TakeCourse(inputs[Down].Size(2));
        var tokens = inputs[X].Contiguous();
        var weights = inputs[Weights].To(WeightType).Contiguous();

        RowsUnderWay Send(TokenRoute route) => route.Send(Part(tokens, route), Part(weights, route));
        if (!_form.MakesResult)
        {
            KeepArriving(Send);
            _shared = SharedRows(tokens)?.Saved(Save, null);
            return [scope.Keep(tokens.NewEmpty(_shape))];
        }

        var sent = Send(_routes[0]);
        var added = ForwardShared(tokens);
        var output = tokens.NewEmpty(_shape);
        var pipeline = new ChunkPipeline(_routes.Length, (chunk, returned) =>
        {
            using var part = Part(output, _routes[chunk]);
            _routes[chunk].SumInto(returned, added is null ? null : Part(added, _routes[chunk]), part);
        });
        _blocks = new ExpertBlock[_routes.Length][];
        for (var chunk = 0; chunk < _routes.Length; chunk++)
        {
            var arrived = Await(chunk, ref sent, Send);
            using var sums = arrived.NewEmpty([_routes[chunk].ArrivingRows, _shape[1]]);
            _blocks[chunk] = ForwardBlocks(_routes[chunk], arrived, sums);
            using var returning = Spans.Open("combine");
            pipeline.Returning(_routes[chunk].Return(sums));
        }

        using var combine = Spans.Open("combine");
        pipeline.Finish();
        return [scope.Keep(output)];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var gradient = (outputGradients[0] ?? _matrices[0].NewZeros(_shape)).Contiguous();
        var gradients = new Tensor?[X + 2 + _matrices.Length];
        var sent = SendGradients(0, gradient);
        var added = BackwardShared(gradient, gradients);
        var goesBack = NeedsGradient(X) || NeedsGradient(Weights);
        var tokens = NeedsGradient(X) ? gradient.NewEmpty(_shape) : null;
        var weights = NeedsGradient(Weights) ? gradient.NewEmpty([_shape[0], _slots], WeightType) : null;
        var pipeline = new ChunkPipeline(_routes.Length, (chunk, returned) =>
        {
            if (tokens is not null)
            {
                using var part = Part(tokens, _routes[chunk]);
                _routes[chunk].SumGradientsInto(returned, added is null ? null : Part(added, _routes[chunk]), part);
            }

            if (weights is not null)
            {
                using var part = Part(weights, _routes[chunk]);
                _routes[chunk].WeightGradientsInto(returned, _shape[1], part);
            }
        });
        var parts = _plan.Parts(_routes);
        var gateUp = NeedsGradient(GateUp) ? new GradientTotal(parts, _uses.GateUp.Taker) : null;
        var down = NeedsGradient(Down) ? new GradientTotal(parts, _uses.Down.Taker) : null;
        for (var chunk = 0; chunk < _routes.Length; chunk++)
        {
            using var arriving = AwaitGradients(chunk, ref sent, gradient);
            BackwardBlocks(chunk, arriving, goesBack ? pipeline : null, gateUp, down);
        }

        pipeline.Finish();
        gradients[X] = tokens;
        gradients[Weights] = weights?.To(_weightsType);
        gradients[GateUp] = gateUp?.Take();
        gradients[Down] = down?.Take();
        return gradients;
    }

    private RowsUnderWay SendGradients(int chunk, Tensor gradient)
    {
        using var span = Spans.OpenBackward("combine");
        return _routes[chunk].SendGradients(Part(gradient, _routes[chunk]));
    }

    private Tensor AwaitGradients(int chunk, ref RowsUnderWay sent, Tensor gradient)
    {
        using var span = Spans.OpenBackward("combine");
        return Await(chunk, ref sent, route => route.SendGradients(Part(gradient, route)));
    }

    // The rows of a chunk, when those of the next are under way: this decides the order of the exchanges, which is that of all ranks.
    private Tensor Await(int chunk, ref RowsUnderWay sent, Func<TokenRoute, RowsUnderWay> send)
    {
        var arriving = sent;
        arriving.Continue();
        if (chunk + 1 < _routes.Length)
        {
            sent = send(_routes[chunk + 1]);
        }

        return arriving.Await();
    }

    private DType WeightType => _type == DType.Float64 ? DType.Float64 : DType.Float32;

    // Where the tokens go, and in which parts the experts of this rank work on those that arrive.
    private void TakeCourse(long hidden)
    {
        if (_known is { } known)
        {
            (_routes, _plan) = (Array.ConvertAll(known.Routes, route => route.Saved(Save)), known.Plan);
        }
        else
        {
            var free = _dispatcher.FreeBytes?.Invoke(); // before the host waits for the sizes
            _routes = Array.ConvertAll(_dispatcher.Plan(_ids, _dispatcher.Chunks), route => route.Saved(Save));

            // A backward of this pass, or of one that goes by this plan.
            var keeps = _form.PlansBackward || _keep is not null || NeedsGradient(X) || NeedsGradient(GateUp) || NeedsGradient(Down);
            _plan = ExpertBlockPlan.Of(new ExpertShape(_shape[1], hidden, _slots, _dispatcher.LocalExperts, _type), _routes, free, _name, keeps);
        }

        _course = _keep is null ? null : new RoutedCourse(Array.ConvertAll(_routes, route => route.Saved(_keep)), _plan);
        _plan = _plan with { Keeps = _plan.Keeps && _form is { KeepsHidden: true, MakesResult: true } };
    }

    private Tensor SaveLarge(Tensor tensor) => Save(tensor, _form.Store);

    // The rows travel, as they did before; what the experts make of them is backward's to make.
    private void KeepArriving(Func<TokenRoute, RowsUnderWay> send)
    {
        _blocks = new ExpertBlock[_routes.Length][];
        var sent = send(_routes[0]);
        for (var chunk = 0; chunk < _routes.Length; chunk++)
        {
            using var arrived = Await(chunk, ref sent, send);
            _blocks[chunk] = TakeBlocks(_routes[chunk], arrived);
        }
    }

    private Tensor? ForwardShared(Tensor tokens)
    {
        if (SharedRows(tokens) is not { } shared)
        {
            return null;
        }

        using var span = Spans.Open("feed-forward");
        var output = shared.Forward(_matrices[SharedGateUp - GateUp], _matrices[SharedDown - GateUp]);
        _shared = shared.Saved(Save, _form.KeepsHidden ? SaveLarge : null);
        return output;
    }

    private SwiGluRows? SharedRows(Tensor tokens) =>
        _matrices.Length <= SharedGateUp - GateUp ? null : new SwiGluRows(tokens, null, RowGroups.Whole(tokens.Size(0)));

    private Tensor? BackwardShared(Tensor gradient, Tensor?[] gradients)
    {
        if (_shared is null)
        {
            return null;
        }

        using var span = Spans.OpenBackward("feed-forward");
        using var scope = new TensorScope();
        var gateUp = NeedsGradient(SharedGateUp) ? new GradientTotal(1, _uses.SharedGateUp.Taker) : null;
        var down = NeedsGradient(SharedDown) ? new GradientTotal(1, _uses.SharedDown.Taker) : null;
        var isWhole = gateUp is not null && down is not null && !_uses.WantSharedSums;
        var ofRows = _shared.Backward(_matrices[SharedGateUp - GateUp], _matrices[SharedDown - GateUp], gradient, NeedsGradient(X), isWhole);
        _shared.Collect(ofRows, gateUp, down, _uses.SharedGateUp.Sums, _uses.SharedDown.Sums);
        gradients[SharedGateUp] = Kept(gateUp?.Take());
        gradients[SharedDown] = Kept(down?.Take());
        return Kept(ofRows.Rows);

        Tensor? Kept(Tensor? made) => made is null ? null : scope.Keep(made);
    }

    private ExpertBlock[] TakeBlocks(TokenRoute route, Tensor arrived)
    {
        var cuts = _plan.Blocks(route.ArrivingRows);
        return Array.ConvertAll(cuts, cut =>
        {
            var block = new ExpertBlock(_shape[1], _slots, _dispatcher.LocalExperts);
            block.Take(cuts.Length == 1 ? arrived : arrived.Narrow(0, cut.Start, cut.Length), cuts.Length == 1 ? route.ArrivingChoices : null, _plan.Keeps, SaveLarge);
            return block;
        });
    }

    private ExpertBlock[] ForwardBlocks(TokenRoute route, Tensor arrived, Tensor sums)
    {
        using var span = Spans.Open("experts");
        var cuts = _plan.Blocks(route.ArrivingRows);
        var blocks = TakeBlocks(route, arrived);
        if (_plan.Keeps)
        {
            arrived.Dispose();
        }

        for (var i = 0; i < blocks.Length; i++)
        {
            using var part = sums.Narrow(0, cuts[i].Start, cuts[i].Length);
            blocks[i].Forward(_matrices[0], _matrices[1], part, Save, SaveLarge);
        }

        arrived.Dispose();
        return blocks;
    }

    // The rows' gradients start on their way back before those of the matrices are made, but for blocks that are many since memory is short, and where one kernel makes all.
    private void BackwardBlocks(int chunk, Tensor arriving, ChunkPipeline? pipeline, GradientTotal? gateUp, GradientTotal? down)
    {
        using var span = Spans.OpenBackward("experts");
        using var scope = new TensorScope();
        var (route, blocks) = (_routes[chunk], _blocks[chunk]);
        var cuts = _plan.Blocks(route.ArrivingRows);
        var stride = PackedRows.Stride(_type, _shape[1], _slots, withIds: false);
        var packed = pipeline is null ? null : arriving.NewEmpty([route.ArrivingRows, stride]);
        var isWhole = gateUp is not null && down is not null && !_uses.WantSums;
        for (var i = 0; i < blocks.Length; i++)
        {
            using var inner = new TensorScope();
            var (start, length) = cuts[i];
            var (rows, ofRows) = blocks[i].Backward(_matrices[0], _matrices[1], arriving.Narrow(0, start, length), packed?.Narrow(0, start, length), isWhole);
            if (i == blocks.Length - 1)
            {
                using var returning = Spans.OpenBackward("dispatch");
                pipeline?.Returning(route.ReturnGradients(packed!, _shape[1]));
            }

            rows.Collect(ofRows, gateUp, down, _uses.GateUp.Sums, _uses.Down.Sums);
        }
    }

    private static Tensor Part(Tensor tokens, TokenRoute route) => tokens.Narrow(0, route.FirstToken, route.Tokens);
}

/// <summary>The way that a layer's tokens went to their experts, and in which parts these worked on them.</summary>
/// <param name="Routes">One a chunk.</param>
/// <param name="Plan">Of this rank's experts.</param>
internal sealed record RoutedCourse(TokenRoute[] Routes, ExpertBlockPlan Plan);
