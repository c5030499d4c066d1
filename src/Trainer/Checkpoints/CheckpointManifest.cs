using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Moe.Torch;

namespace Moe.Training.Checkpoints;

/// <summary>One logical tensor of a checkpoint.</summary>
/// <param name="File">Name of the tensor file within the checkpoint's folder.</param>
/// <param name="Dtype">Element type as stored.</param>
/// <param name="Shape">Lengths of the dimensions of the unsplit tensor.</param>
public sealed record CheckpointTensor(string File, DType Dtype, long[] Shape);

/// <summary>One tensor file of a checkpoint.</summary>
/// <param name="Bytes">Its size.</param>
/// <param name="Sha256">Of the whole file, in lower-case hexadecimal.</param>
public sealed record CheckpointFile(long Bytes, string Sha256);

/// <summary>Where a run stands between two steps; everything else follows from the configuration.</summary>
/// <param name="Step">Optimizer steps done.</param>
/// <param name="ConsumedSamples">Training samples used so far: the index of the next one.</param>
/// <param name="ConsumedTokens">Training tokens used so far.</param>
/// <param name="GlobalBatch">Sequences a step.</param>
/// <param name="SkippedInARow">Steps without an update, because of a gradient that was not finite, up to now.</param>
/// <param name="Seed">Seed of all random streams. They are functions of seed, name and counter, so this and the counts are the whole random state.</param>
/// <param name="Optimizer">Name of the optimizer as in the configuration.</param>
/// <param name="OptimizerScalars">Numbers of the optimizer beside its tensors, such as where MKOR-H stands.</param>
/// <param name="Data">For each domain by name, the sha256 of its tokens.</param>
public sealed record RunPosition(
    long Step,
    long ConsumedSamples,
    long ConsumedTokens,
    long GlobalBatch,
    long SkippedInARow,
    ulong Seed,
    string Optimizer,
    IReadOnlyDictionary<string, double> OptimizerScalars,
    IReadOnlyDictionary<string, string> Data)
{
    /// <summary>Optimizer by pattern of the parameters' keys (<see cref="Configuration.OptimizerAssignment.Names"/>); null in a checkpoint that does not say it.</summary>
    public IReadOnlyDictionary<string, string>? Assignment { get; init; }
}

/// <summary>manifest.json: what a checkpoint holds, and what its files must hash to.</summary>
/// <param name="Format">Version of this layout, <see cref="CurrentFormat"/>.</param>
/// <param name="Mesh">Mesh of the run that wrote it; for readers, since any mesh can load it.</param>
/// <param name="Position">Where the run stood.</param>
/// <param name="Files">Tensor files by name.</param>
/// <param name="Tensors">Logical tensors by key.</param>
public sealed record CheckpointManifest(
    int Format,
    string Mesh,
    RunPosition Position,
    SortedDictionary<string, CheckpointFile> Files,
    SortedDictionary<string, CheckpointTensor> Tensors)
{
    /// <summary>The layout that this program reads and writes.</summary>
    public const int CurrentFormat = 1;

    /// <summary>Name of the manifest within a checkpoint's folder.</summary>
    public const string FileName = "manifest.json";

    /// <summary>Name of the file with the manifest's own sha256, as <c>sha256sum --check</c> reads it: a changed digit of a position would show nowhere else.</summary>
    public const string SumFileName = "manifest.sha256";

    /// <summary>Reads and checks the manifest of a folder.</summary>
    /// <exception cref="CheckpointException">There is none, it is damaged, or it cannot be understood.</exception>
    public static CheckpointManifest Read(string folder)
    {
        var path = Path.Combine(folder, FileName);
        try
        {
            var bytes = File.ReadAllBytes(path);
            if (File.ReadAllText(Path.Combine(folder, SumFileName)) != SumOf(bytes))
            {
                throw new CheckpointException($"'{path}' is damaged: its sha256 is not that in {SumFileName}");
            }

            var manifest = JsonSerializer.Deserialize(bytes, CheckpointJson.Default.CheckpointManifest);
            return manifest switch
            {
                { Position: not null, Files: not null, Tensors: not null, Format: CurrentFormat } => manifest,
                { Format: not CurrentFormat } => throw new CheckpointException(
                    $"'{path}' has format {manifest.Format}; this program reads format {CurrentFormat}"),
                _ => throw new CheckpointException($"'{path}' is incomplete"),
            };
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"'{path}' cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Writes the manifest of a folder, and its sum.</summary>
    /// <exception cref="IOException">The folder cannot be written to.</exception>
    internal void Write(string folder)
    {
        var bytes = JsonSerializer.SerializeToUtf8Bytes(this, CheckpointJson.Default.CheckpointManifest);
        Durable.WriteAllBytes(Path.Combine(folder, SumFileName), Encoding.ASCII.GetBytes(SumOf(bytes)));
        Durable.WriteAllBytes(Path.Combine(folder, FileName), bytes);
    }

    private static string SumOf(byte[] manifest) => $"{Convert.ToHexStringLower(SHA256.HashData(manifest))}  {FileName}\n";
}

/// <summary>What one rank wrote, or why it could not; sent to all ranks before the manifest is written.</summary>
internal sealed record RankShard(string? Error, string? File, CheckpointFile? Content, SortedDictionary<string, CheckpointTensor> Tensors);

[JsonSourceGenerationOptions(
    WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, UseStringEnumConverter = true, Converters = [typeof(ExactNumber)])]
[JsonSerializable(typeof(CheckpointManifest))]
[JsonSerializable(typeof(RankShard))]
internal sealed partial class CheckpointJson : JsonSerializerContext;
