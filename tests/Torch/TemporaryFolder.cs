using System.Buffers.Binary;
using System.Text;

namespace Moe.Tests.Torch;

/// <summary>A folder of one test, deleted with it, and ways to put safetensors files of any content into it.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("moe-tests-");

    internal string[] FileNames => [.. _folder.GetFiles().Select(f => f.Name).Order()];

    public void Dispose() => _folder.Delete(recursive: true);

    internal string PathOf(string name) => Path.Combine(_folder.FullName, name);

    internal string Write(byte[] content)
    {
        var path = PathOf($"{Guid.NewGuid():N}.safetensors");
        File.WriteAllBytes(path, content);
        return path;
    }

    /// <summary>A file with the given header text and data bytes 0, 1, 2, ...</summary>
    internal string Write(string header, int dataLength, ulong? statedLength = null)
    {
        var text = Encoding.UTF8.GetBytes(header);
        var content = new byte[8 + text.Length + dataLength];
        BinaryPrimitives.WriteUInt64LittleEndian(content, statedLength ?? (ulong)text.Length);
        text.CopyTo(content, 8);
        for (var i = 0; i < dataLength; i++)
        {
            content[8 + text.Length + i] = (byte)i;
        }

        return Write(content);
    }
}
