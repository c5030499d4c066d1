namespace Moe.Training.Hosting;

/// <summary>What can be done about a file that could not be written.</summary>
public static class DiskFault
{
    // Errno of Linux; .NET keeps it in HResult.
    private const int FileTooLarge = 27, NoSpaceLeft = 28, QuotaExceeded = 122, ReadOnlyFileSystem = 30;

    /// <summary>
    /// Lets a file that grows beyond the limit (<c>ulimit -f</c>) fail its write, as one on a full disk does, where the default is to end the process.
    /// </summary>
    public static void SurviveFileSizeLimit()
    {
        const int FileSizeExceeded = 25; // SIGXFSZ
        const nint Ignore = 1;
        _ = Posix.SetAction(FileSizeExceeded, Ignore);
    }

    /// <summary>Whether a file could not be written. Of a file beyond the limit .NET says so by an exception of another kind.</summary>
    public static bool IsOne(Exception exception) => exception is IOException or UnauthorizedAccessException
        || (exception is ArgumentOutOfRangeException && exception.Message.Contains(TooLarge, StringComparison.Ordinal));

    /// <summary>What to try after an exception.</summary>
    /// <returns>Null where it is none that is known.</returns>
    public static string? Remedy(Exception exception) => exception.HResult switch
    {
        NoSpaceLeft or QuotaExceeded => FreeSpace,
        FileTooLarge => LargerLimit,
        ReadOnlyFileSystem => "another --run-dir: this file system can only be read",
        _ => Remedy(exception.Message),
    };

    /// <summary>What to try after an error of another rank, of which only the words arrived.</summary>
    /// <inheritdoc cref="Remedy(Exception)"/>
    public static string? Remedy(string message) =>
        message.Contains("No space left", StringComparison.Ordinal) || message.Contains("quota exceeded", StringComparison.OrdinalIgnoreCase) ? FreeSpace
        : message.Contains("File too large", StringComparison.Ordinal) || message.Contains(TooLarge, StringComparison.Ordinal) ? LargerLimit
        : null;

    private const string TooLarge = "too large for the file system";
    private const string LargerLimit = "a larger limit of file sizes (ulimit -f), then the same command";
    private const string FreeSpace = "free space where the run folder lies (df -h; fewer with train.keep_checkpoints), then the same command continues";
}
