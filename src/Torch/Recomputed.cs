namespace Moe.Torch;

/// <summary>What the first pass of a <see cref="Recomputed"/> part yields.</summary>
/// <param name="Outputs">New tensors.</param>
/// <param name="Again">
/// From the same inputs the same outputs, recorded: what backward goes through. An output on which nothing within depends may have any values.
/// </param>
public readonly record struct FirstPass(Tensor[] Outputs, Func<Tensor[], Tensor[]> Again);

/// <summary>
/// A part of a model of which only the inputs are kept for backward, and what its first pass decided: backward computes it once more, and goes
/// through that. Chen et al. 2016, https://arxiv.org/abs/1604.06174.
/// </summary>
/// <remarks>
/// Parameters within get their gradients by the inner backward, each as soon as it is made; they are no inputs. The second pass runs on the
/// thread of the backward, as its collectives do, in the order of the layers from the last to the first on all ranks.
/// </remarks>
public sealed class Recomputed : Function
{
    private readonly Func<Tensor[], Func<Tensor, Tensor>?, FirstPass> _compute;
    private readonly HostStore? _store;
    private Func<Tensor[], Tensor[]>? _again;
    private Tensor[] _inputs = [];

    private Recomputed(Func<Tensor[], Func<Tensor, Tensor>?, FirstPass> compute, bool trainsWithin, HostStore? store) =>
        (_compute, TrainsWithin, _store) = (compute, trainsWithin, store);

    /// <inheritdoc/>
    protected override bool TrainsWithin { get; }

    /// <summary>Computes the part.</summary>
    /// <param name="inputs">Without gaps.</param>
    /// <param name="compute">
    /// The first pass, unrecorded. It is given a function that keeps a tensor until backward: for what the second pass shall not decide anew. None where
    /// nothing is recorded, and no second pass will come.
    /// </param>
    /// <param name="trainsWithin">Whether a parameter within asks for a gradient.</param>
    /// <param name="store">Where the inputs wait; null to leave them where they are.</param>
    /// <returns>What the first pass yields.</returns>
    public static Tensor[] Apply(
        Tensor[] inputs, Func<Tensor[], Func<Tensor, Tensor>?, FirstPass> compute, bool trainsWithin, HostStore? store = null) =>
        new Recomputed(compute, trainsWithin, store).Apply(inputs);

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        (var outputs, _again) = _compute(inputs, IsRecording ? Save : null);
        _inputs = Array.ConvertAll(inputs, input => Save(input, _store));
        return outputs;
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var leaves = new Tensor[_inputs.Length];
        for (var i = 0; i < leaves.Length; i++)
        {
            leaves[i] = _inputs[i].Detach();
            leaves[i].RequiresGrad = NeedsGradient(i);
        }

        var (roots, seeds) = SecondPass(leaves, outputGradients);
        if (roots.Length > 0)
        {
            Autograd.Backward(roots, seeds);
        }

        return Array.ConvertAll(leaves, leaf => leaf.Gradient);
    }

    // Its scope ends before the inner backward, so that what that has used is freed as it goes.
    private (Tensor[] Roots, Tensor?[] Seeds) SecondPass(Tensor[] leaves, Tensor?[] outputGradients)
    {
        using var mode = Autograd.Recorded();
        using var scope = new TensorScope();
        var outputs = _again!(leaves);
        int[] used = [.. Enumerable.Range(0, outputs.Length).Where(i => outputGradients[i] is not null && outputs[i].RequiresGrad)];
        return (Array.ConvertAll(used, i => scope.Keep(outputs[i])), Array.ConvertAll(used, i => outputGradients[i]));
    }
}
