using Moe.Tests;
using Moe.Tests.Distributed;
using Moe.Tests.Launch;

// The test runner enters by the test platform; these are the programs that tests start as processes.
return args switch
{
    [RankScenario.Command, .. var settings] => RankScenario.Run(settings),
    [FakeRank.Command, .. var rest] => FakeRank.Run(rest),
    [FakeLauncher.Command, .. var rest] => await FakeLauncher.RunAsync(rest),
    [TestRunner.Command, .. var rest] => TestRunner.Run(rest),
    _ => 0,
};
