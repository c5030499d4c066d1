using Moe.Launch.Terminal;

namespace Moe.Launch.Checks;

/// <summary>/dev/shm, through which ranks of one machine exchange their messages: containers give it 64 MiB unless told otherwise.</summary>
internal sealed class SharedMemoryCheck : Check
{
    private const string Folder = "/dev/shm";
    private const long Least = 256L << 20;

    public override string Name => "shared memory";

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        if (!Directory.Exists(Folder))
        {
            yield return new Finding(Verdict.Warns, $"shared memory: there is no {Folder}", "mount -t tmpfs tmpfs /dev/shm");
            yield break;
        }

        var drive = new DriveInfo(Folder);
        var text = MetricText.Invariant($"shared memory: {Folder} {drive.TotalSize >> 20} MiB, {drive.AvailableFreeSpace >> 20} free");
        yield return drive.AvailableFreeSpace < Least ? new Finding(Verdict.Warns, text, "docker run --shm-size=8g, or remove what lies there") : Finding.Works(text);
    }
}
