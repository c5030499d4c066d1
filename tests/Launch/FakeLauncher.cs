using Moe.Launch;
using Moe.Launch.Supervision;

namespace Moe.Tests.Launch;

/// <summary>The real launcher with <see cref="FakeRank"/>s: <c>Moe.Tests.dll fake-launch BEHAVIOUR ...</c>, the rest as for <c>launch</c>.</summary>
internal static class FakeLauncher
{
    public const string Command = "fake-launch";

    public static Task<int> RunAsync(string[] args)
    {
        var program = RankProgram.Assembly(typeof(FakeLauncher).Assembly.Location, needsNativeLibraries: false);
        var ranks = program with { Arguments = [.. program.Arguments, FakeRank.Command, args[0]] };
        var patience = args[0].StartsWith("mute", StringComparison.Ordinal) ? TimeSpan.FromSeconds(3) : TimeSpan.FromMinutes(1);
        return LaunchProgram.RunAsync(args[1..], LaunchHost.OfThisProcess(ranks) with
        {
            StartPatience = patience,
            Self = program with { Arguments = [.. program.Arguments, Command, args[0]] },
        });
    }
}
