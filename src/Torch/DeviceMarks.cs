namespace Moe.Torch;

/// <summary>Marks in the work of a device that are used again: thousands are wanted at once, and making one takes longer than setting it.</summary>
internal static class DeviceMarks
{
    private static readonly Stack<CudaEvent> Spare = new();

    /// <summary>A mark behind all work that the thread's stream has so far.</summary>
    public static CudaEvent Set()
    {
        CudaEvent? mark;
        lock (Spare)
        {
            Spare.TryPop(out mark);
        }

        mark ??= new CudaEvent();
        mark.Record();
        return mark;
    }

    /// <summary>Takes a mark back; null for none.</summary>
    public static void Return(CudaEvent? mark)
    {
        if (mark is not null)
        {
            lock (Spare)
            {
                Spare.Push(mark);
            }
        }
    }
}
