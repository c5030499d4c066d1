using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>What <see cref="MultiTensor.Update"/> does to an element; the native side's <c>Rule</c>, in its order. The formulas are in native/kernels/optimizer_rules.h.</summary>
public enum UpdateRule
{
    /// <summary>Slots: value, gradient, mean, mean square.</summary>
    Adam,

    /// <summary>Slots: value, gradient, mean, mean square, largest mean square.</summary>
    AdamAmsgrad,

    /// <summary>Slots: value, term. Coefficients: value scale, term scale.</summary>
    ScaledSum,

    /// <summary>Slots: value, gradient, running gradient.</summary>
    Momentum,

    /// <summary>Slots: value, gradient, mean, variance.</summary>
    AdaBelief,

    /// <summary>Slots: value, gradient, mean, variance, largest variance.</summary>
    AdaBeliefAmsgrad,

    /// <summary>Slots: value, gradient, mean, mean square. The direction takes the gradient's place; the value stays.</summary>
    LambDirection,

    /// <summary>
    /// Slots: momentum, gradient, direction (written only). Coefficients: momentum kept, gradient taken in, the direction's share of the new
    /// momentum and of the gradient.
    /// </summary>
    MuonMomentum,
}

/// <summary>Optimizer updates over a list of tensors in one native call and one pass over the memory.</summary>
public static unsafe class MultiTensor
{
    /// <summary>Steps every element of every tensor by a rule.</summary>
    /// <param name="rule">What to do, and which slots it takes.</param>
    /// <param name="coefficients">A row a tensor: the rule's coefficients.</param>
    /// <param name="slots">
    /// The rule's slots, each a list of as many tensors; contiguous, on one device, alike in size at each place, all float64 or each float32 or
    /// bfloat16. Those are worked in float32, and what is stored in bfloat16 is rounded once.
    /// </param>
    /// <exception cref="TorchException">Slots, coefficients or tensors don't fit the rule.</exception>
    public static void Update(UpdateRule rule, double[,] coefficients, params ReadOnlySpan<Tensor[]> slots) => UpdateWithCopies(rule, coefficients, copies: null, slots);

    /// <summary>As <see cref="Update"/>, and writes the new values, rounded, over bfloat16 copies.</summary>
    /// <param name="rule">As there.</param>
    /// <param name="coefficients">As there.</param>
    /// <param name="copies">One a tensor, bfloat16, or null for a tensor without; null for none at all.</param>
    /// <param name="slots">As there; the values in float32 or bfloat16.</param>
    /// <exception cref="TorchException">Slots, coefficients or tensors don't fit the rule.</exception>
    public static void UpdateWithCopies(UpdateRule rule, double[,] coefficients, Tensor?[]? copies, params ReadOnlySpan<Tensor[]> slots)
    {
        using var update = Prepare(rule, copies, slots);
        update.Run(coefficients);
    }

    /// <summary>Does what can be done of an update before its coefficients are known: looks every tensor up, and brings the list to where the tensors stand.</summary>
    /// <param name="rule">As for <see cref="Update"/>.</param>
    /// <param name="copies">As for <see cref="UpdateWithCopies"/>.</param>
    /// <param name="slots">As there. They stay where they are until the update was run.</param>
    /// <exception cref="TorchException">Slots or tensors don't fit the rule.</exception>
    public static PreparedUpdate Prepare(UpdateRule rule, Tensor?[]? copies, params ReadOnlySpan<Tensor[]> slots)
    {
        var count = slots[0].Length;
        var handles = new nint[slots.Length * count];
        for (var slot = 0; slot < slots.Length; slot++)
        {
            if (slots[slot].Length != count)
            {
                throw new ArgumentException($"slot {slot} of {rule} lists {slots[slot].Length} tensors, slot 0 {count}", nameof(slots));
            }

            Handles(slots[slot], handles.AsSpan(slot * count));
        }

        var copied = new nint[copies is null ? 0 : count];
        for (var i = 0; i < copied.Length; i++)
        {
            copied[i] = copies![i]?.LiveHandle ?? 0;
        }

        fixed (nint* first = handles)
        fixed (nint* firstCopy = copied)
        {
            Abi.Check(Abi.OptimizerPrepare((int)rule, first, slots.Length, count, copies is null ? null : firstCopy, out var prepared));
            return new PreparedUpdate(prepared);
        }
    }

    /// <summary>Euclidean norm of each tensor, summed in float64 and in one order: the same bits whatever the number of threads.</summary>
    /// <param name="tensors">Contiguous, on one device, all float64 or each float32 or bfloat16. On a device, this waits for it.</param>
    /// <exception cref="TorchException">A tensor isn't such.</exception>
    public static double[] Norms(Tensor[] tensors)
    {
        if (tensors.Length == 0)
        {
            return [];
        }

        using var sums = SquareSums(tensors);
        return Array.ConvertAll(sums.ToArray<double>(), Math.Sqrt);
    }

    /// <summary>What the squares of each tensor's elements add up to, in the same order.</summary>
    /// <param name="tensors">As for <see cref="Norms"/>; at least one.</param>
    /// <returns>[tensors] float64 on their device, which nothing here waits for.</returns>
    /// <exception cref="TorchException">A tensor isn't such.</exception>
    public static Tensor SquareSums(Tensor[] tensors)
    {
        var handles = new nint[tensors.Length];
        Handles(tensors, handles);
        Operator.CountCall();
        fixed (nint* first = handles)
        {
            Abi.Check(Abi.SquareSums(first, tensors.Length, out var sums));
            return new Tensor(sums);
        }
    }

    private static void Handles(Tensor[] tensors, Span<nint> handles)
    {
        for (var i = 0; i < tensors.Length; i++)
        {
            handles[i] = tensors[i].LiveHandle;
        }
    }
}
