using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

/// <summary>What holds for the whole process.</summary>
public class TorchRuntimeTests
{
    [Test]
    public void A_tensor_takes_of_the_heap_what_it_has_unused_or_makes_it_grow_and_gives_it_back()
    {
        const long Bytes = 256 << 20;
        var before = TorchRuntime.Heap;
        Assume.That(before.Held, Is.Positive, "this C library tells nothing");
        var during = InUse(Bytes);
        Assert.That(during - (before.Held - before.Unused), Is.EqualTo(Bytes).Within(10).Percent);
        Assert.That(TorchRuntime.Heap.Held - TorchRuntime.Heap.Unused, Is.LessThan(during - (Bytes / 2)));
    }

    private static long InUse(long bytes)
    {
        using var scope = new TensorScope();
        Tensor.Zeros([bytes / 4]);
        var heap = TorchRuntime.Heap;
        return heap.Held - heap.Unused;
    }
}
