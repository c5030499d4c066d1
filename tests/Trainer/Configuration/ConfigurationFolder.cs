using System.Text;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Configuration;

/// <summary>A folder of configuration files that lives as long as one test.</summary>
internal sealed class ConfigurationFolder : IDisposable
{
    /// <summary>Appended to a file, makes it complete: the one key without a default.</summary>
    public const string Domains = "\ndata:\n  domains: [{name: a, path: a.txt}]\n";

    public string Path { get; } = Directory.CreateTempSubdirectory("moe-config-").FullName;

    public string Write(string name, string text)
    {
        var path = System.IO.Path.Combine(Path, name);
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, Encoding.UTF8.GetBytes(text));
        return path;
    }

    public ResolvedConfig Read(string text, params string[] overrides) => ConfigReader.Read(Write("test.yaml", text), overrides);

    /// <summary>The faults of a file that must be refused.</summary>
    public IReadOnlyList<ConfigFault> Refuse(string text, params string[] overrides)
    {
        try
        {
            Read(text, overrides);
        }
        catch (ConfigException e)
        {
            return e.Faults;
        }

        throw new AssertionException($"Nothing was refused in:\n{text}\n{string.Join('\n', overrides)}");
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
