using System.Text.Json;

namespace Moe.Tests.Distributed;

/// <summary>What a spawned rank needs to know, handed over as one argument.</summary>
/// <param name="Type">Full name of the class of the scenario.</param>
/// <param name="Folder">For what the rank writes.</param>
/// <param name="StorePort">Of the store on this machine; Gloo and NCCL only.</param>
public sealed record RankSettings(
    string Type, string Method, string Backend, int Size, string Folder, int StorePort, double GroupTimeoutSeconds, string[] Arguments)
{
    public string ToArgument() => JsonSerializer.Serialize(this);

    public static RankSettings Parse(string argument) => JsonSerializer.Deserialize<RankSettings>(argument)!;

    public string OutputFile(int rank) => Path.Combine(Folder, $"rank{rank}.txt");

    public string ExitFile(int rank) => Path.Combine(Folder, $"rank{rank}.exit");
}
