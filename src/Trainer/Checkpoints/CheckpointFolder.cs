using System.Globalization;
using System.Security.Cryptography;

namespace Moe.Training.Checkpoints;

/// <summary>
/// The folder of a run's checkpoints: <c>step_00000300/</c> each, and a file <c>latest</c> that names the newest. A checkpoint is complete
/// once it has its final name: it is written as <c>step_00000300.partial/</c> and renamed.
/// </summary>
/// <param name="path">May not exist yet.</param>
public sealed class CheckpointFolder(string path)
{
    private const string Prefix = "step_";
    private const string PartialSuffix = ".partial";
    private const string ReplacedSuffix = ".replaced";
    private const string LatestName = "latest";

    /// <summary>Its path.</summary>
    public string Location { get; } = path;

    /// <summary>Folder of the checkpoint after <paramref name="step"/> steps.</summary>
    public string Of(long step) => Path.Combine(Location, Prefix + step.ToString("D8", CultureInfo.InvariantCulture));

    /// <summary>Folder that the checkpoint is written in until it is complete.</summary>
    public string PartialOf(long step) => Of(step) + PartialSuffix;

    /// <summary>Steps of the checkpoints that have their final name, newest first.</summary>
    public IReadOnlyList<long> Steps() => StepsOf("");

    /// <summary>The newest checkpoint whose files are whole.</summary>
    /// <param name="warn">Told of each newer one that is not, and why.</param>
    /// <returns>Its folder; null where there are no checkpoints at all.</returns>
    /// <exception cref="CheckpointException">There are checkpoints, and none is whole.</exception>
    public string? NewestVerified(Action<string> warn)
    {
        var steps = Steps();
        foreach (var step in steps)
        {
            try
            {
                Verify(Of(step));
                return Of(step);
            }
            catch (CheckpointException e)
            {
                warn($"checkpoint {Path.GetFileName(Of(step))} is passed over: {e.Message}");
            }
        }

        return steps.Count == 0 ? null : throw new CheckpointException(
            $"none of the {steps.Count} checkpoints in '{Location}' is whole; --resume none starts anew in another run folder");
    }

    /// <summary>Checks every file of a checkpoint against its manifest.</summary>
    /// <exception cref="CheckpointException">A file is missing, has another size, or hashes to something else.</exception>
    public static void Verify(string checkpoint)
    {
        foreach (var (name, expected) in CheckpointManifest.Read(checkpoint).Files)
        {
            var file = Path.Combine(checkpoint, name);
            try
            {
                using var stream = File.OpenRead(file);
                if (stream.Length != expected.Bytes)
                {
                    throw new CheckpointException($"'{file}' has {stream.Length} bytes, its manifest says {expected.Bytes}");
                }

                if (Convert.ToHexStringLower(SHA256.HashData(stream)) != expected.Sha256)
                {
                    throw new CheckpointException($"'{file}' is damaged: its sha256 is not the manifest's");
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new CheckpointException($"'{file}' cannot be read: {e.Message}", e);
            }
        }
    }

    /// <summary>Gives the partial checkpoint its final name, points <c>latest</c> at it, and removes all but the newest <paramref name="keep"/>.</summary>
    /// <param name="step">The partial checkpoint's step.</param>
    /// <param name="keep">At least 1; or 0 for all.</param>
    internal void Complete(long step, int keep)
    {
        var final = Of(step);
        var replaced = final + ReplacedSuffix;
        Delete(replaced);
        if (Directory.Exists(final))
        {
            Directory.Move(final, replaced); // a run resumed from an older checkpoint reaches this step again
        }

        Directory.Move(PartialOf(step), final);
        Delete(replaced);
        Durable.Sync(Location);
        Durable.WriteAllBytes(Path.Combine(Location, LatestName), System.Text.Encoding.UTF8.GetBytes(Path.GetFileName(final) + "\n"));
        foreach (var later in Steps().Where(other => other > step))
        {
            // Of a course that this run has left, by resuming before it; the next `auto` must not go on from there. It stays until the new course has come as far.
            Delete(Of(later) + ReplacedSuffix);
            Directory.Move(Of(later), Of(later) + ReplacedSuffix);
        }

        foreach (var passed in StepsOf(ReplacedSuffix).Where(other => other <= step))
        {
            Delete(Of(passed) + ReplacedSuffix);
        }

        foreach (var old in keep == 0 ? [] : Steps().Where(other => other < step).Skip(keep - 1))
        {
            Directory.Delete(Of(old), recursive: true);
        }
    }

    /// <summary>Makes an empty partial folder, removing what killed runs left, of whatever step.</summary>
    internal void Begin(long step)
    {
        // What somebody deleted in mid-run must not come back as a run folder without a configuration.
        if (Path.GetDirectoryName(Path.GetFullPath(Location)) is { } run && !Directory.Exists(run))
        {
            throw new DirectoryNotFoundException($"the run folder '{run}' is gone");
        }

        Directory.CreateDirectory(Location);
        foreach (var left in Directory.GetDirectories(Location, Prefix + "*" + PartialSuffix))
        {
            Directory.Delete(left, recursive: true);
        }

        Directory.CreateDirectory(PartialOf(step));
    }

    internal void Discard(long step) => Delete(PartialOf(step));

    // Newest first, of the folders with an ending.
    private long[] StepsOf(string suffix) => !Directory.Exists(Location)
        ? []
        : [.. Directory.EnumerateDirectories(Location, Prefix + "*" + suffix)
            .Select(folder => Path.GetFileName(folder)[Prefix.Length..^suffix.Length])
            .Select(number => long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var step) ? step : -1)
            .Where(step => step >= 0)
            .OrderDescending()];

    private static void Delete(string folder)
    {
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
