using System.Globalization;

namespace Moe.Launch.Checks;

/// <summary>Whether the clock can be right, and whether something keeps it so.</summary>
internal sealed class ClockCheck : Check
{
    public override string Name => "clock";

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        // Nothing can run before it was built.
        var built = File.GetLastWriteTimeUtc(typeof(ClockCheck).Assembly.Location);
        var now = DateTime.UtcNow;
        var text = $"clock: {now.ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture)} UTC";
        if (now < built.AddMinutes(-5))
        {
            yield return new Finding(Verdict.Warns, $"{text} is before this program was built", "set the clock: timedatectl set-ntp true");
            yield break;
        }

        yield return Synchronised(context) switch
        {
            true => Finding.Works($"{text}, synchronised"),
            false => new Finding(Verdict.Warns, $"{text}, not synchronised with others", "timedatectl set-ntp true"),
            null => Finding.Works(text),
        };
    }

    private static bool? Synchronised(DoctorContext context)
    {
        if (context.Program("timedatectl") is not { } program)
        {
            return null;
        }

        var answer = ProgramRun.Of(program, ["show", "--property=NTPSynchronized", "--value"], TimeSpan.FromSeconds(3));
        return answer.Succeeded ? answer.FirstLine switch { "yes" => true, "no" => false, _ => null } : null;
    }
}
