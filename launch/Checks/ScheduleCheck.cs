using Moe.Training;
using Moe.Training.Configuration;

namespace Moe.Launch.Checks;

/// <summary>Looks at the schedule's file before any rank starts.</summary>
internal static class ScheduleCheck
{
    /// <summary>What is wrong with it; none where no file is asked for.</summary>
    public static IReadOnlyList<ConfigFault> Faults(ResolvedConfig resolved)
    {
        if (resolved.Config.Schedule is not { Name: ScheduleName.Refined, File: { } path })
        {
            return [];
        }

        try
        {
            _ = ScheduleFile.Read(path);
            return [];
        }
        catch (TrainingException e)
        {
            return [resolved.Fault("schedule.file", e.Message, "launch schedule refine --run DIR writes one")];
        }
    }
}
