using System.Runtime.InteropServices;

namespace Moe.Launch.Supervision;

/// <summary>The program that is started once a rank.</summary>
/// <param name="FileName">The executable.</param>
/// <param name="Arguments">Its first arguments; the rank's own follow.</param>
/// <param name="NeedsNativeLibraries">True for the trainer; false for test programs that only speak the control channel.</param>
internal sealed record RankProgram(string FileName, IReadOnlyList<string> Arguments, bool NeedsNativeLibraries)
{
    /// <summary>The trainer, which the build puts beside the launcher.</summary>
    public static RankProgram Trainer { get; } = Assembly(Path.Combine(AppContext.BaseDirectory, "Moe.Training.dll"), needsNativeLibraries: true);

    /// <summary>A managed program, run by the .NET host that runs this process.</summary>
    public static RankProgram Assembly(string path, bool needsNativeLibraries)
    {
        // The runtime lies in ROOT/shared/Microsoft.NETCore.App/VERSION, and the host in ROOT. A self-contained folder has no host: there the
        // program's own executable lies beside its assembly.
        var host = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", "dotnet"));
        return File.Exists(host)
            ? new RankProgram(host, ["exec", path], needsNativeLibraries)
            : new RankProgram(Path.ChangeExtension(path, null), [], needsNativeLibraries);
    }
}
