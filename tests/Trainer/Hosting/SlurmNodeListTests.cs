using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Hosting;

/// <summary>Slurm's compressed lists, as <c>scontrol show hostnames</c> of Slurm 22.05.8 reads them.</summary>
internal sealed class SlurmNodeListTests
{
    [TestCase("node0", "node0")]
    [TestCase("node[0-3]", "node0 node1 node2 node3")]
    [TestCase("gpu[008-010,2]-ib", "gpu008-ib gpu009-ib gpu010-ib gpu2-ib")]
    [TestCase("login,n[1,3],x9", "login n1 n3 x9")]
    [TestCase("r[0-1]n[1-2]", "r0n1 r0n2 r1n1 r1n2")]
    public void Names_come_in_their_order_with_leading_zeros(string list, string names) =>
        Assert.That(string.Join(' ', SlurmNodeList.Names(list)), Is.EqualTo(names));

    [TestCase("2(x3),1", "2 2 2 1"), TestCase("4", "4"), TestCase("1,2(x2)", "1 2 2")]
    public void Tasks_are_repeated(string list, string tasks) => Assert.That(string.Join(' ', SlurmNodeList.Tasks(list)), Is.EqualTo(tasks));

    [TestCase("node[0-3"), TestCase("node0-3]"), TestCase("node[3-1]"), TestCase("node[a]"), TestCase("a,,b"), TestCase("n[[1]]")]
    public void Nonsense_is_refused(string list) => Assert.That(() => SlurmNodeList.Names(list), Throws.TypeOf<FormatException>());

    [TestCase("2(x3"), TestCase("many"), TestCase("2(y3)")]
    public void Tasks_that_are_no_numbers_are_refused(string list) => Assert.That(() => SlurmNodeList.Tasks(list), Throws.TypeOf<FormatException>());
}
