using System.Buffers.Binary;
using System.Collections;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

public sealed class SafeTensorsWriterTests
{
    private TemporaryFolder _folder = null!;
    private TensorScope _scope = null!;

    [SetUp]
    public void Open()
    {
        _folder = new TemporaryFolder();
        _scope = new TensorScope();
    }

    [TearDown]
    public void Close()
    {
        _scope.Dispose();
        _folder.Dispose();
    }

    [Test]
    public void Bytes_are_those_of_the_format()
    {
        var path = _folder.PathOf("x");
        SafeTensorsWriter.Write(path, [("attn0", Tensor.From([1f, 2f], 1, 2))], new Dictionary<string, string> { ["z"] = "\"\\\n\u0001é", ["a"] = "" });
        const string Header = """{"__metadata__":{"a":"","z":"\"\\\n\u0001é"},"attn0":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}""";
        var padded = Encoding.UTF8.GetBytes(Header).Concat(Enumerable.Repeat((byte)' ', 7)).ToArray();
        padded = padded[..(padded.Length / 8 * 8)];
        byte[] expected = [(byte)padded.Length, 0, 0, 0, 0, 0, 0, 0, .. padded, 0, 0, 0x80, 0x3F, 0, 0, 0, 0x40];
        Assert.That(File.ReadAllBytes(path), Is.EqualTo(expected));
    }

    // The first bytes of files that the reference implementation wrote: a whole model, and a file of two element types without metadata.
    [TestCase("deepseek_v3-model", 658_656, 53)]
    [TestCase("mixtral-golden", 879_304, 27)]
    public void Headers_of_the_reference_implementation_are_read_and_written_byte_for_byte(string name, long dataLength, int tensors)
    {
        var bytes = File.ReadAllBytes(Path.Combine(TestContext.CurrentContext.TestDirectory, "Torch", "fixtures", $"{name}.safetensors-header"));
        var header = SafeTensorsHeaderReader.Read(name, bytes.AsSpan(8), dataLength);
        Assert.That(header.Entries, Has.Count.EqualTo(tensors));
        Assert.That(header.ToBytes(), Is.EqualTo(bytes));

        var written = header.Entries
            .OrderByDescending(e => SafeTensorsTypes.WriteOrder(e.DType))
            .ThenBy(e => SafeTensorsHeader.Utf8(e.Key), SafeTensorsHeader.Utf8Order);
        Assert.That(written, Is.EqualTo(header.Entries));
    }

    [Test]
    public void Tensors_of_any_shape_type_and_name_come_back_and_their_order_does_not_matter()
    {
        var random = FreshRandom.Create();
        var tensors = Enumerable.Range(0, 100).Select(i => ($"層.{i}.\"重み\" 🙂\t{random.Next()}", RandomTensor(random))).ToArray();
        var (path, other) = (_folder.PathOf("one"), _folder.PathOf("other"));
        var metadata = new Dictionary<string, string> { ["b"] = "ß", ["a"] = "2" };
        SafeTensorsWriter.Write(path, tensors, metadata);
        random.Shuffle(tensors);
        SafeTensorsWriter.Write(other, tensors, new Dictionary<string, string> { ["a"] = "2", ["b"] = "ß" });
        Assert.That(File.ReadAllBytes(other), Is.EqualTo(File.ReadAllBytes(path)));

        using var file = SafeTensorsFile.Open(path);
        Assert.That(file.Metadata, Is.EquivalentTo(metadata));
        Assert.That(file.Keys, Is.EquivalentTo(tensors.Select(t => t.Item1)));
        foreach (var (key, tensor) in tensors)
        {
            var loaded = file.Load(key);
            Assert.That(loaded.Shape, Is.EqualTo(tensor.Shape));
            Assert.That(loaded.DType, Is.EqualTo(tensor.DType));
            Assert.That(Elements(loaded), Is.EqualTo(Elements(tensor)));
        }
    }

    [Test]
    public void Data_of_every_type_stands_aligned()
    {
        var random = FreshRandom.Create();
        var path = _folder.PathOf("x");
        SafeTensorsWriter.Write(path, Enumerable.Range(0, 50).Select(i => ($"t{i}", RandomTensor(random))));
        var header = File.ReadAllBytes(path).AsSpan(0, 8);
        Assert.That(BinaryPrimitives.ReadInt64LittleEndian(header) % 8, Is.Zero);
        using var file = SafeTensorsFile.Open(path);
        Assert.That(file.Keys.Select(file.Entry).Select(e => e.Offset % e.DType.Size()), Is.All.Zero);
    }

    [Test]
    public void Tensors_with_gaps_are_packed()
    {
        var path = _folder.PathOf("x");
        var matrix = Tensor.From([1f, 2, 3, 4, 5, 6], 2, 3);
        var before = Tensor.LiveCount;
        SafeTensorsWriter.Write(path, [("transposed", matrix.Transpose()), ("column", matrix.Narrow(1, 1, 1)), ("row", matrix.Narrow(0, 1, 1))]);
        using var file = SafeTensorsFile.Open(path);
        Assert.That(file.Load("transposed").ToArray<float>(), Is.EqualTo(new float[] { 1, 4, 2, 5, 3, 6 }));
        Assert.That(file.Load("column").ToArray<float>(), Is.EqualTo(new float[] { 2, 5 }));
        Assert.That(file.Load("row").ToArray<float>(), Is.EqualTo(new float[] { 4, 5, 6 }));
        Assert.That(Tensor.LiveCount - before, Is.EqualTo(6), "three views and three loaded tensors; no packed copy");
    }

    [Test]
    public void A_thousand_tensors_and_more_than_one_chunk_of_data_are_written_with_their_digest()
    {
        var large = Tensor.Empty([700_001]);
        new RandomStream(5, "large").FillNormal(large.Span<float>(), 0);
        var path = _folder.PathOf("x");
        var digest = SafeTensorsWriter.Write(
            path, Enumerable.Range(0, 1000).Select(i => ($"experts.{i}", Tensor.Full([3, i % 4], i))).Append(("large", large)));
        Assert.That(digest, Is.EqualTo(Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(path)))));

        using var file = SafeTensorsFile.Open(path);
        Assert.That(file.Keys, Has.Count.EqualTo(1001));
        Assert.That(file.Load("experts.999").ToArray<float>(), Is.EqualTo(Enumerable.Repeat(999f, 9)));
        Assert.That(file.Load("large").ToArray<float>(), Is.EqualTo(large.ToArray<float>()));
    }

    [Test]
    public void File_without_tensors_is_16_bytes()
    {
        var path = _folder.PathOf("x");
        SafeTensorsWriter.Write(path, []);
        Assert.That(File.ReadAllBytes(path), Is.EqualTo("\b\0\0\0\0\0\0\0{}      "u8.ToArray()));
    }

    [Test]
    public void Failed_write_leaves_the_old_file_and_nothing_else()
    {
        var path = _folder.PathOf("model");
        SafeTensorsWriter.Write(path, [("x", Tensor.Full([1], 7))]);
        var content = File.ReadAllBytes(path);

        // Metadata is read after the tensors were measured and before their data is: what it frees fails in the middle of the file.
        var freed = Tensor.Zeros([5]);
        var metadata = new Dictionary<string, string> { ["k"] = "v" };
        var trap = new MetadataThatFrees(metadata, freed);
        Assert.That(() => SafeTensorsWriter.Write(path, [("a", Tensor.Ones([9])), ("b", freed)], trap), Throws.TypeOf<ObjectDisposedException>());
        Assert.That(File.ReadAllBytes(path), Is.EqualTo(content));
        Assert.That(_folder.FileNames, Is.EqualTo(new[] { "model" }));
    }

    [Test]
    public void Target_that_cannot_be_replaced_leaves_no_partial_file()
    {
        Directory.CreateDirectory(_folder.PathOf("taken"));
        Assert.That(() => SafeTensorsWriter.Write(_folder.PathOf("taken"), [("x", Tensor.Ones([3]))]), Throws.InstanceOf<Exception>());
        Assert.That(_folder.FileNames, Is.Empty);
        Assert.That(() => SafeTensorsWriter.Write(_folder.PathOf("no/such/folder"), [("x", Tensor.Ones([3]))]), Throws.TypeOf<DirectoryNotFoundException>());
    }

    [Test]
    public void Impossible_keys_are_refused_before_a_file_is_made()
    {
        var x = Tensor.Ones([1]);
        var path = _folder.PathOf("x");
        Assert.That(() => SafeTensorsWriter.Write(path, [("a", x), ("a", x)]), Throws.ArgumentException.With.Message.Contains("'a' occurs twice"));
        Assert.That(() => SafeTensorsWriter.Write(path, [("__metadata__", x)]), Throws.ArgumentException.With.Message.Contains("reserved"));
        Assert.That(() => SafeTensorsWriter.Write(path, [("a", x), ("\ud800", x)]), Throws.InstanceOf<ArgumentException>());
        Assert.That(_folder.FileNames, Is.Empty);
    }

    private static Tensor RandomTensor(Random random)
    {
        DType[] types = [DType.Bool, DType.UInt8, DType.BFloat16, DType.Int32, DType.Float32, DType.Float64, DType.Int64];
        var dtype = types[random.Next(types.Length)];
        long[] shape = [.. Enumerable.Range(0, random.Next(5)).Select(_ => (long)random.Next(4))];
        var values = new double[shape.Aggregate(1L, (a, b) => a * b)];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = dtype is DType.Bool ? random.Next(2) : random.Next(256);
        }

        return Tensor.From((ReadOnlySpan<double>)values, values.Length).View(shape).To(dtype);
    }

    private static double[] Elements(Tensor tensor) => tensor.To(DType.Float64).ToArray<double>();

    private sealed class MetadataThatFrees(Dictionary<string, string> values, Tensor tensor) : IReadOnlyDictionary<string, string>
    {
        public int Count => values.Count;

        public IEnumerable<string> Keys => values.Keys;

        public IEnumerable<string> Values => values.Values;

        public string this[string key] => values[key];

        public bool ContainsKey(string key) => values.ContainsKey(key);

        public bool TryGetValue(string key, [MaybeNullWhen(false)] out string value) => values.TryGetValue(key, out value);

        public IEnumerator<KeyValuePair<string, string>> GetEnumerator()
        {
            tensor.Dispose();
            return values.GetEnumerator();
        }

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
