using System.Diagnostics;
using Moe.Launch.Terminal;

namespace Moe.Launch.Checks;

/// <summary>The folder of runs: what checkpoints rely on, namely writing, atomic renaming, locks, space and speed.</summary>
internal sealed class RunsFolderCheck : Check
{
    private const double GibiByte = 1 << 30;
    private const int ProbeBytes = 16 << 20;
    private const double SlowMegabytes = 20;

    public override string Name => "runs folder";

    public override TimeSpan Limit => TimeSpan.FromSeconds(20);

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        var runs = context.RunsFolder;
        var probe = Path.Combine(runs, $".doctor-{Environment.ProcessId}");
        Finding? trouble = null;
        try
        {
            Directory.CreateDirectory(probe);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            trouble = new Finding(Verdict.Fails, $"runs folder: {runs} cannot be written: {e.Message}", "--run-dir DIR");
        }

        if (trouble is not null)
        {
            yield return trouble;
            yield break;
        }

        try
        {
            yield return Space(runs);
            yield return Speed(probe);
            yield return Renames(probe);
            yield return Locks(probe);
        }
        finally
        {
            Directory.Delete(probe, recursive: true);
        }
    }

    private static Finding Space(string runs)
    {
        var drive = new DriveInfo(runs);
        var free = drive.AvailableFreeSpace / GibiByte;
        var text = MetricText.Invariant($"runs folder: {runs} can be written, {free:F1} GiB free ({drive.DriveFormat})");
        return free < 1 ? new Finding(Verdict.Warns, text, "train.keep_checkpoints=1, or another --run-dir") : Finding.Works(text);
    }

    private static Finding Speed(string probe)
    {
        var bytes = new byte[ProbeBytes];
        var clock = Stopwatch.StartNew();
        using (var file = new FileStream(Path.Combine(probe, "rate"), FileMode.Create))
        {
            file.Write(bytes);
            file.Flush(flushToDisk: true);
        }

        var rate = ProbeBytes / 1e6 / clock.Elapsed.TotalSeconds;
        var text = MetricText.Invariant($"runs folder: {rate:F0} MB/s written to disk");
        return rate < SlowMegabytes ? new Finding(Verdict.Warns, text + ", checkpoints will take long", "--run-dir on a local or parallel file system") : Finding.Works(text);
    }

    // A file that replaces another under a reader's eyes is whole, old or new: this is what `latest` rests on.
    private static Finding Renames(string probe)
    {
        const int Rounds = 50;
        var (target, next) = (Path.Combine(probe, "latest"), Path.Combine(probe, "next"));
        File.WriteAllText(target, "0");
        using var reader = Task.Run(() =>
        {
            for (var seen = ""; seen != $"{Rounds}";)
            {
                seen = File.ReadAllText(target);
                if (seen.Length == 0)
                {
                    return false;
                }
            }

            return true;
        });
        for (var round = 1; round <= Rounds; round++)
        {
            File.WriteAllText(next, $"{round}");
            File.Move(next, target, overwrite: true);
        }

        bool isWhole;
        try
        {
            isWhole = reader.Wait(TimeSpan.FromSeconds(5)) && reader.Result;
        }
        catch (AggregateException)
        {
            isWhole = false;
        }

        return isWhole
            ? Finding.Works("runs folder: renaming is atomic")
            : new Finding(Verdict.Fails, "runs folder: a file that was replaced by renaming was missing or empty for a moment", "--run-dir on another file system");
    }

    private static Finding Locks(string probe)
    {
        var path = Path.Combine(probe, "lock");
        using var first = new FileStream(path, FileMode.Create, FileAccess.ReadWrite, FileShare.None);
        try
        {
            using var second = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
            return new Finding(Verdict.Warns, "runs folder: locks don't hold; two launchers could write one run", "never continue a run twice at once, or --run-dir on a file system with locks");
        }
        catch (IOException)
        {
            return Finding.Works("runs folder: locks hold");
        }
    }
}
