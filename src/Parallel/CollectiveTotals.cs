namespace Moe.Distributed;

/// <summary>What one kind of collective has cost this process.</summary>
/// <param name="Calls">Operations started.</param>
/// <param name="Bytes">Bytes that this rank handed over: for an all-to-all those that left it, else the size of its input.</param>
/// <param name="Waited">Time inside <see cref="Work.Wait"/>: what was not hidden behind other work. Of a transfer that runs on a device, the time that it took there, hidden or not.</param>
public readonly record struct CollectiveTotals(long Calls, long Bytes, TimeSpan Waited);
