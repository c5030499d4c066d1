using System.Globalization;
using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

public class ParameterOwnersTests
{
    [Test]
    public void Each_matrix_has_one_owner_and_no_rank_much_more_than_its_share([Values(2, 3, 4)] int ranks)
    {
        var seed = Random.Shared.Next(1 << 30);
        TestContext.Out.WriteLine($"seed {seed}");
        Ranks.Run(ParameterOwnersScenarios.ShareOut, [seed.ToString(CultureInfo.InvariantCulture)], ranks, Ranks.Backends[0]);
    }

    [Test]
    public void One_rank_owns_everything()
    {
        using var scope = new TensorScope();
        using var mesh = new DeviceMesh(new SingleProcessGroup(TimeSpan.FromSeconds(1)), 1);
        var stack = new Parameter("experts.gate", Tensor.Zeros([3, 2, 2]), ParameterKind.Expert, [0, 1, 2]);
        var owners = new ParameterOwners([stack], mesh);
        Assert.That(owners.Of(stack), Is.EqualTo([0, 0, 0]));
        Assert.That(owners.Owns(stack), Is.All.True);
        Assert.That(owners.Loads, Is.EqualTo([12.0]));
    }
}
