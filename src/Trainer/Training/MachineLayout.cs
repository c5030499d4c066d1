using System.Text;
using Moe.Distributed;

namespace Moe.Training;

/// <summary>Which ranks of a group share a machine, whatever the launcher calls a node.</summary>
internal sealed class MachineLayout
{
    // One a start of a machine's kernel, and the same in all its containers.
    private const string BootId = "/proc/sys/kernel/random/boot_id";

    private readonly string[] _machines; // of each rank

    /// <param name="machines">Name of each rank's machine.</param>
    /// <param name="rank">This one.</param>
    internal MachineLayout(string[] machines, int rank) => (_machines, RanksHere) = (machines, machines.Count(machine => machine == machines[rank]));

    /// <summary>Ranks of the group on this machine, this one included.</summary>
    public int RanksHere { get; }

    /// <summary>Every member calls this at the same time.</summary>
    public static MachineLayout Gather(ProcessGroup group)
    {
        var own = File.Exists(BootId) ? File.ReadAllText(BootId).Trim() : Environment.MachineName;
        return new MachineLayout([.. group.GatherBytes(Encoding.UTF8.GetBytes(own)).Select(Encoding.UTF8.GetString)], group.Rank);
    }

    /// <summary>Whether any so many ranks that follow one another, counted from the first, stand on several machines; the same on every rank.</summary>
    /// <param name="ranks">Divides those of the group.</param>
    public bool Spans(int ranks) => _machines.Chunk(ranks).Any(machines => machines.Distinct().Count() > 1);
}
