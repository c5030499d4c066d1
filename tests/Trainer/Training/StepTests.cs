using Moe.Distributed;
using Moe.Tests.Distributed;
using NUnit.Framework;

namespace Moe.Tests.Training;

[TestFixtureSource(typeof(Ranks), nameof(Ranks.Backends))]
public class StepTests(string backend) : TinyRunTests
{
    [Test]
    public void Every_run_has_the_same_bits_with_evaluations_or_without() => Run(StepScenarios.Repeat, 4);

    [Test]
    public void No_tensor_is_left_by_a_hundred_steps() => Run(StepScenarios.KeepNothing, 2);

    [Test]
    public void One_rank_with_a_NaN_makes_all_skip_the_update() => Run(StepScenarios.SkipTogether, 2);

    [Test]
    public void One_rank_asked_to_stop_makes_all_stop() => Run(StepScenarios.StopTogether, 2);

    [Test]
    public void Every_rank_learns_what_the_others_measured_and_the_step_stays_the_same() => Run(StepScenarios.MeasureRanks, 2);

    private void Run(Action<ProcessGroup, string[]> scenario, int ranks) => Ranks.Run(scenario, [Folder], ranks, backend);
}
