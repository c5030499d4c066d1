using Moe.Tests.Distributed;
using Moe.Tests.Training;
using NUnit.Framework;

namespace Moe.Tests.Profiling;

[TestFixtureSource(typeof(Ranks), nameof(Ranks.Backends))]
public class ProfileTests(string backend) : TinyRunTests
{
    [Test]
    public void Ranks_profile_together_without_changing_a_bit() => Ranks.Run(ProfileScenarios.Profile, [Folder], 2, backend);
}
