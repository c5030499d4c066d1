using System.Runtime.InteropServices;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

public sealed class SafeTensorsFileTests
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

    [TestCase("BOOL", DType.Bool, 1)]
    [TestCase("U8", DType.UInt8, 1)]
    [TestCase("BF16", DType.BFloat16, 2)]
    [TestCase("I32", DType.Int32, 4)]
    [TestCase("F32", DType.Float32, 4)]
    [TestCase("F64", DType.Float64, 8)]
    [TestCase("I64", DType.Int64, 8)]
    public void Every_type_is_loaded_bit_for_bit(string name, DType dtype, int size)
    {
        // Data bytes are 0, 1, 2, ...; two elements, so that a BOOL gets 0 and 1. One byte before them puts them at an odd address.
        var header = $$$"""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"{{{name}}}","shape":[2,1],"data_offsets":[1,{{{1 + (2 * size)}}}]}}""";
        var path = _folder.Write(header, 1 + (2 * size));
        var content = File.ReadAllBytes(path);
        if (dtype == DType.Bool)
        {
            content[^2] = 1;
            content[^1] = 0;
            File.WriteAllBytes(path, content);
        }

        using var file = SafeTensorsFile.Open(path);
        var tensor = file.Load("x");
        Assert.That((tensor.DType, file.Entry("x").DType), Is.EqualTo((dtype, dtype)));
        Assert.That(tensor.Shape, Is.EqualTo(new long[] { 2, 1 }));
        Assert.That(RawBytes(tensor), Is.EqualTo(content[^(2 * size)..]));
        Assert.That(file.Bytes("x").ToArray(), Is.EqualTo(content[^(2 * size)..]));
    }

    [Test]
    public void Keys_come_in_the_order_of_the_data_whatever_the_header_says()
    {
        const string Header = """
            {"late":{"data_offsets":[4,6],"shape":[2],"dtype":"U8"}, "early":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"__metadata__":{"by":"hand"}}
            """;
        using var file = SafeTensorsFile.Open(_folder.Write(Header, 6));
        Assert.That(file.Keys, Is.EqualTo(new[] { "early", "late" }));
        Assert.That(file.Metadata, Is.EqualTo(new Dictionary<string, string> { ["by"] = "hand" }));
        Assert.That(file.Load("late").ToArray<byte>(), Is.EqualTo(new byte[] { 4, 5 }));
        Assert.That((file.Entry("late").Offset, file.Entry("late").Length), Is.EqualTo((4L, 2L)));
        Assert.That((file.Contains("late"), file.Contains("__metadata__")), Is.EqualTo((true, false)));
    }

    [Test]
    public void Scalars_and_tensors_without_elements_are_read()
    {
        const string Header = """
            {"none":{"dtype":"F32","shape":[3,0,5],"data_offsets":[0,0]},"one":{"dtype":"F64","shape":[],"data_offsets":[0,8]},"end":{"dtype":"I64","shape":[0],"data_offsets":[8,8]}}
            """;
        using var file = SafeTensorsFile.Open(_folder.Write(Header, 8));
        Assert.That(file.Load("none").Shape, Is.EqualTo(new long[] { 3, 0, 5 }));
        Assert.That(file.Bytes("none").Length, Is.Zero);
        Assert.That(file.Load("one").Shape, Is.Empty);
        Assert.That(file.Load("one").Item(), Is.EqualTo(BitConverter.ToDouble([0, 1, 2, 3, 4, 5, 6, 7])));
        Assert.That(file.Load("end").Count, Is.Zero);
    }

    [Test]
    public void File_without_tensors_is_read()
    {
        using var file = SafeTensorsFile.Open(_folder.Write("{}      ", 0));
        Assert.That((file.Keys.Count, file.Metadata.Count), Is.EqualTo((0, 0)));
    }

    [Test]
    public void Loaded_tensors_outlive_the_file()
    {
        Tensor tensor;
        using (var file = SafeTensorsFile.Open(_folder.Write("""{"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}""", 3)))
        {
            tensor = file.Load("x");
            file.Dispose();
            Assert.That(() => file.Load("x"), Throws.TypeOf<ObjectDisposedException>());
        }

        Assert.That(tensor.ToArray<byte>(), Is.EqualTo(new byte[] { 0, 1, 2 }));
    }

    [Test]
    public void File_renamed_over_while_open_stays_readable_as_it_was()
    {
        var path = _folder.PathOf("model.safetensors");
        SafeTensorsWriter.Write(path, [("x", Tensor.Full([1000], 1))]);
        using var old = SafeTensorsFile.Open(path);
        SafeTensorsWriter.Write(path, [("x", Tensor.Full([2], 2))]);
        File.Delete(path);
        Assert.That(old.Load("x").ToArray<float>(), Is.EqualTo(Enumerable.Repeat(1f, 1000)));
    }

    [Test]
    public void File_cut_short_while_open_is_refused_when_its_data_is_asked_for()
    {
        var path = _folder.PathOf("model.safetensors");
        SafeTensorsWriter.Write(path, [("x", Tensor.Zeros([100_000]))]);
        using var file = SafeTensorsFile.Open(path);
        using (var stream = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            stream.SetLength(5000);
        }

        Assert.That(() => file.Load("x"), Throws.TypeOf<SafeTensorsException>().With.Message.Contains("has 5000 now"));
        Assert.That(() => file.Bytes("x").Length, Throws.TypeOf<SafeTensorsException>().With.Property("Tensor").EqualTo("x"));
    }

    [Test]
    public void Absent_tensor_and_absent_file_are_named()
    {
        var path = _folder.Write("""{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1);
        using var file = SafeTensorsFile.Open(path);
        Assert.That(() => file.Load("y"), Throws.TypeOf<SafeTensorsException>()
            .With.Message.EqualTo($"{path}: tensor 'y': is not among the file's 1 tensors"));
        Assert.That(() => SafeTensorsFile.Open(_folder.PathOf("none")), Throws.TypeOf<FileNotFoundException>().With.Message.Contains("none"));
    }

    [Test]
    public void Bool_that_is_neither_0_nor_1_is_refused_and_leaves_no_tensor()
    {
        using var file = SafeTensorsFile.Open(_folder.Write("""{"mask":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}}""", 3));
        var before = Tensor.LiveCount;
        Assert.That(() => file.Load("mask"), Throws.TypeOf<SafeTensorsException>().With.Message.Contains("element 2 of BOOL is 2"));
        Assert.That(Tensor.LiveCount, Is.EqualTo(before));
    }

    private static byte[] RawBytes(Tensor tensor)
    {
        var bytes = new byte[tensor.Count * tensor.DType.Size()];
        Marshal.Copy(tensor.DataPointer, bytes, 0, bytes.Length);
        return bytes;
    }
}
