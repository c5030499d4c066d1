using Moe.Models;
using Moe.Torch;

namespace Moe.Training;

/// <summary>
/// A <see cref="MicroStep"/> of a lone rank on a GPU that is made a few times as it is, then captured, and launched as one graph from there on: all its shapes stand
/// still, since such a rank has a row for each choice of each of its tokens.
/// </summary>
/// <param name="step">What is captured.</param>
/// <param name="model">Whose gradients it makes.</param>
/// <param name="newLoad">Makes an empty load.</param>
internal sealed class CapturedMicroStep(MicroStep step, Transformer model, Func<ExpertLoad> newLoad) : IDisposable
{
    // Libraries make their plans and allocate what they keep in the first; the second has the memory's final shape.
    private const int WarmUps = 2;

    private int _made;
    private CudaGraph? _graph;
    private Tensor?[] _gradients = [];
    private MicroBatch _batch;
    private Tensor? _counts;
    private Tensor? _sums;

    /// <summary>Whether there is a graph, which holds memory that the allocator counts as free.</summary>
    public bool IsCaptured => _graph is not null;

    /// <summary>As <see cref="MicroStep.Run"/>, of a step's only micro-batch.</summary>
    /// <param name="batch">Of the same shape each time.</param>
    /// <param name="load">Takes the choices in.</param>
    public Tensor Run(MicroBatch batch, ExpertLoad load)
    {
        // A graph has no parts that a profile could mark; what it holds of the memory is given back for the step without it.
        if (Spans.IsOn)
        {
            Dispose();
            return step.Run(batch, load, wholeBatch: null);
        }

        if (_made++ < WarmUps)
        {
            return step.Run(batch, load, wholeBatch: null);
        }

        if (_graph is null)
        {
            Capture(batch);
        }

        using var mode = Autograd.NoGrad();
        _batch.Tokens.CopyFrom_(batch.Tokens);
        _batch.Targets.CopyFrom_(batch.Targets);
        _graph!.Replay();
        for (var i = 0; i < _gradients.Length; i++)
        {
            model.Parameters[i].Value.Gradient = _gradients[i];
        }

        load.Add(_counts!);
        return _sums!.Share();
    }

    public void Dispose()
    {
        Free();
        _graph?.Dispose();
        _graph = null;
    }

    private void Capture(MicroBatch batch)
    {
        using var scope = new TensorScope();
        _batch = new MicroBatch(batch.Tokens.Clone().Detached(), batch.Targets.Clone().Detached());
        try
        {
            _graph = CudaGraph.Capture(() =>
            {
                using var temporaries = new TensorScope();
                var load = newLoad();
                _sums = step.Run(_batch, load, wholeBatch: null).Share().Detached();
                _counts = load.Take();
            });
        }
        catch (TorchException e)
        {
            Free();
            throw new TrainingException(
                $"train.graph_capture: forward and backward can't be captured: {e.Message.Split('\n')[0]}", "train.graph_capture=false, which resumes from the last checkpoint");
        }

        _gradients = [.. model.Parameters.Select(parameter => parameter.Value.Gradient?.Detached())];
    }

    private void Free()
    {
        foreach (var tensor in (Tensor?[])[_batch.Tokens, _batch.Targets, _counts, _sums, .. _gradients])
        {
            tensor?.Dispose();
        }

        (_batch, _counts, _sums, _gradients) = (default, null, null, []);
    }
}
