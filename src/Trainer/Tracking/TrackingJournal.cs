using System.Text.Json;
using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>
/// tracking.jsonl, the journal of a run: whatever MLflow is to know stands here first. A line has left this process when
/// <see cref="Append"/> returns, so that it outlives the process.
/// </summary>
/// <remarks>
/// MLflow keeps every point for ever. So rows beyond the checkpoint that a run resumes from are dealt with by what the server may know of them:
/// those that it cannot have yet are removed, and the rows of the new attempt take their place; those that it has, or may have, stand, and the new
/// attempt's points of the same key and step are not told again.
/// </remarks>
internal sealed class TrackingJournal : IDisposable
{
    private readonly FileStream _stream;
    private readonly Microsoft.Win32.SafeHandles.SafeFileHandle _handle;
    private readonly Lock _lock = new();

    private TrackingJournal(string path, JournalHistory history)
    {
        History = history;
        _stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
        _stream.SetLength(history.Length); // without the half line of a killed process
        _stream.Seek(0, SeekOrigin.End);
        _handle = _stream.SafeFileHandle;
    }

    /// <summary>What stood in it when it was opened.</summary>
    public JournalHistory History { get; }

    /// <summary>Bytes of the whole lines.</summary>
    public long Length { get; private set; }

    /// <summary>Opens the journal to append to it.</summary>
    /// <param name="path">Made where it is missing.</param>
    /// <param name="lastStep">The step that training goes on from.</param>
    /// <param name="sent">Bytes that the server has or may have.</param>
    /// <exception cref="IOException">The file cannot be read or written.</exception>
    public static TrackingJournal Open(string path, long lastStep, long sent)
    {
        var history = JournalHistory.Read(path, lastStep, sent);
        if (history.HasStaleRows)
        {
            RemoveRows(path, lastStep, sent);
            history = JournalHistory.Read(path, lastStep, sent);
        }

        return new TrackingJournal(path, history) { Length = history.Length };
    }

    /// <summary>Opens a journal whose training has ended.</summary>
    /// <exception cref="IOException">The file cannot be read or written.</exception>
    public static TrackingJournal OpenEnded(string path) => Open(path, long.MaxValue, long.MaxValue);

    /// <summary>Appends an entry; any thread may.</summary>
    /// <exception cref="IOException">It could not be written; the file is as it was.</exception>
    public void Append(JournalEntry entry)
    {
        byte[] line = [.. JsonSerializer.SerializeToUtf8Bytes(entry, MlflowJson.Default.JournalEntry), (byte)'\n'];
        lock (_lock)
        {
            try
            {
                _stream.Write(line);
                _stream.Flush();
                Length += line.Length;
            }
            catch (Exception e) when (DiskFault.IsOne(e))
            {
                _stream.SetLength(Length); // a full disk may have taken half of it
                _stream.Seek(0, SeekOrigin.End);
                throw;
            }
        }
    }

    /// <summary>Waits until all lines are on the disk. Nobody who appends waits with it: a disk may take seconds.</summary>
    /// <exception cref="IOException">The disk does not take them.</exception>
    public void Sync() => RandomAccess.FlushToDisk(_handle);

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            _stream.Dispose();
        }
    }

    private static void RemoveRows(string path, long lastStep, long sent)
    {
        var aside = path + ".tmp";
        using (var from = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite))
        using (var to = new FileStream(aside, FileMode.Create, FileAccess.Write))
        {
            foreach (var line in JournalReader.All(path).Where(line => line.Start < sent || line.Entry is not MetricsEntry row || row.Step <= lastStep))
            {
                var bytes = new byte[line.End - line.Start];
                from.Seek(line.Start, SeekOrigin.Begin);
                from.ReadExactly(bytes);
                to.Write(bytes);
            }

            to.Flush(flushToDisk: true);
        }

        File.Move(aside, path, overwrite: true);
    }
}
