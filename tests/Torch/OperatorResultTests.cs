using Moe.Torch;
using Moe.Torch.Native;
using NUnit.Framework;

namespace Moe.Tests.Torch;

public sealed class OperatorResultTests
{
    [Test]
    public unsafe void Results_without_room_for_all_are_given_back()
    {
        using var scope = new TensorScope();
        var x = Tensor.Zeros([1 << 16, 2]);
        Abi.Check(Abi.FindOperator("aten::max", "dim", out var max));
        var arguments = stackalloc NativeValue[2] { new() { Tag = ArgumentTag.Tensor, Bits = x.LiveHandle }, new() { Tag = ArgumentTag.Int, Bits = 1 } };
        var results = stackalloc NativeValue[1];
        using var memory = new HostMemoryCount();
        var status = Abi.Call(max, arguments, 2, results, 1, out _);
        Assert.That(() => Abi.Check(status), Throws.TypeOf<TorchException>().With.Message.Contains("returned 2 values, more than 1"));
        Assert.That(HostMemoryCount.Read().Now, Is.Zero);
    }
}
