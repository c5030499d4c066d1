using Moe.Data;
using Moe.Launch.Runs;

namespace Moe.Tests.Data;

/// <summary>A temporary folder of texts and what is prepared from them.</summary>
internal sealed class TextFolder : IDisposable
{
    public string Root { get; } = Directory.CreateTempSubdirectory("moe-data-").FullName;

    /// <summary>The repository's data/ with the example texts.</summary>
    public static string RepositoryData { get; } = Path.Combine(Repository.Find(AppContext.BaseDirectory)!, "data");

    public string this[string name] => Path.Combine(Root, name);

    public string Write(string name, byte[] bytes)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(this[name])!);
        File.WriteAllBytes(this[name], bytes);
        return this[name];
    }

    public string Write(string name, string text) => Write(name, System.Text.Encoding.UTF8.GetBytes(text));

    /// <summary>A token folder of one document with these bytes.</summary>
    public TokenFolder Tokens(string name, byte[] bytes)
    {
        TokenFolder.Prepare([Write(name + ".txt", bytes)], this[name]);
        return TokenFolder.Open(this[name]);
    }

    /// <summary>A token folder of this many pseudo-random tokens, the same for the same name.</summary>
    public TokenFolder Tokens(string name, int count)
    {
        var bytes = new byte[count];
        new Random(name.Sum(c => c)).NextBytes(bytes);
        return Tokens(name, bytes);
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);
}
