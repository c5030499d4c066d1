using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace Moe.Torch;

/// <summary>Reads the text of a safetensors header and refuses whatever the format forbids, by name and number.</summary>
/// <remarks>
/// The order of the header's keys is free: old writers follow no order. Beyond the reference implementation, repeated keys,
/// unknown fields and a <c>null</c> in place of the metadata are refused.
/// </remarks>
internal ref struct SafeTensorsHeaderReader
{
    private readonly string _path;
    private readonly long _dataLength;
    private Utf8JsonReader _json;

    private SafeTensorsHeaderReader(string path, ReadOnlySpan<byte> text, long dataLength)
    {
        _path = path;
        _dataLength = dataLength;
        _json = new Utf8JsonReader(text);
    }

    /// <param name="path">The file, for messages.</param>
    /// <param name="text">The whole JSON text with its padding.</param>
    /// <param name="dataLength">Bytes of the file behind the text.</param>
    /// <exception cref="SafeTensorsException">The header breaks a rule of the format.</exception>
    internal static SafeTensorsHeader Read(string path, ReadOnlySpan<byte> text, long dataLength)
    {
        if (!Utf8.IsValid(text))
        {
            throw new SafeTensorsException(path, null, "the header is not UTF-8 text");
        }

        if (text.IsEmpty || text[0] != (byte)'{')
        {
            throw new SafeTensorsException(path, null, "the header does not begin with '{'");
        }

        try
        {
            return new SafeTensorsHeaderReader(path, text, dataLength).ReadHeader();
        }
        catch (JsonException fault)
        {
            throw new SafeTensorsException(path, null, $"the header is not JSON: {fault.Message}", fault);
        }
    }

    private SafeTensorsHeader ReadHeader()
    {
        var entries = new List<SafeTensorsEntry>();
        var keys = new HashSet<string>();
        Dictionary<string, string>? metadata = null;
        _json.Read();
        while (NextProperty() is { } key)
        {
            if (!keys.Add(key))
            {
                throw Fault(key, "occurs twice in the header");
            }

            if (key == SafeTensorsHeader.MetadataKey)
            {
                metadata = ReadMetadata();
            }
            else
            {
                entries.Add(ReadEntry(key));
            }
        }

        _json.Read(); // throws where anything but white space follows the object
        CheckLayout(entries);
        return new SafeTensorsHeader(entries, metadata ?? []);
    }

    private Dictionary<string, string> ReadMetadata()
    {
        var metadata = new Dictionary<string, string>();
        Expect(JsonTokenType.StartObject, null, $"{SafeTensorsHeader.MetadataKey} is not an object");
        while (NextProperty() is { } key)
        {
            var name = SafeTensorsException.Shorten(key);
            Expect(JsonTokenType.String, null, $"{SafeTensorsHeader.MetadataKey} has '{name}', which is not a string");
            if (!metadata.TryAdd(key, Text()))
            {
                throw Fault(null, $"{SafeTensorsHeader.MetadataKey} has '{name}' twice");
            }
        }

        return metadata;
    }

    private SafeTensorsEntry ReadEntry(string key)
    {
        string? type = null;
        List<long>? shape = null, offsets = null;
        Expect(JsonTokenType.StartObject, key, "is not described by an object");
        while (NextProperty() is { } field)
        {
            switch (field)
            {
                case "dtype" when type is null:
                    Expect(JsonTokenType.String, key, "dtype is not a string");
                    type = Text();
                    break;
                case "shape" when shape is null:
                    shape = ReadIntegers(key, field);
                    break;
                case "data_offsets" when offsets is null:
                    offsets = ReadIntegers(key, field);
                    break;
                default:
                    throw Fault(key, $"field '{SafeTensorsException.Shorten(field)}' is repeated, or none of dtype, shape, data_offsets");
            }
        }

        if (type is null || shape is null || offsets is null)
        {
            throw Fault(key, $"lacks {(type is null ? "dtype" : shape is null ? "shape" : "data_offsets")}");
        }

        if (!SafeTensorsTypes.TryParse(type, out var dtype))
        {
            throw Fault(key, $"dtype '{SafeTensorsException.Shorten(type)}' is not among {SafeTensorsTypes.Names}");
        }

        return CheckedEntry(key, dtype, shape, offsets);
    }

    private readonly SafeTensorsEntry CheckedEntry(string key, DType dtype, List<long> shape, List<long> offsets)
    {
        if (offsets.Count != 2)
        {
            throw Fault(key, $"data_offsets has {offsets.Count} numbers, not 2");
        }

        var (begin, end) = (offsets[0], offsets[1]);
        if (begin > end)
        {
            throw Fault(key, $"data_offsets begin at {begin}, behind their end at {end}");
        }

        if (end > _dataLength)
        {
            throw Fault(key, $"data_offsets end at {end}, past the {_dataLength} bytes of data; the file may be cut short");
        }

        long needed = dtype.Size();
        try
        {
            foreach (var length in shape)
            {
                needed = checked(needed * length);
            }
        }
        catch (OverflowException)
        {
            throw Fault(key, $"shape [{string.Join(", ", shape)}] has more bytes than 64 bits can count");
        }

        if (needed != end - begin)
        {
            throw Fault(key, $"shape [{string.Join(", ", shape)}] of {dtype} takes {needed} bytes, data_offsets [{begin}, {end}] give {end - begin}");
        }

        return new SafeTensorsEntry(key, dtype, shape, begin, end - begin);
    }

    private readonly void CheckLayout(List<SafeTensorsEntry> entries)
    {
        // Keys break the tie of empty tensors at one place, so that the order is the same on every reading.
        entries.Sort((x, y) => (x.Offset, x.Length).CompareTo((y.Offset, y.Length)) is var order and not 0 ? order : string.CompareOrdinal(x.Key, y.Key));

        SafeTensorsEntry? previous = null;
        foreach (var entry in entries)
        {
            var expected = previous?.End ?? 0;
            if (entry.Offset < expected)
            {
                throw Fault(entry.Key, $"data begins at {entry.Offset}, inside '{SafeTensorsException.Shorten(previous!.Key)}', which ends at {expected}");
            }

            if (entry.Offset > expected)
            {
                throw Fault(entry.Key, $"data begins at {entry.Offset}, leaving bytes {expected} to {entry.Offset} to no tensor");
            }

            previous = entry;
        }

        if ((previous?.End ?? 0) is var covered && covered != _dataLength)
        {
            throw Fault(null, $"the tensors end at {covered}, leaving bytes {covered} to {_dataLength} of the data to no tensor");
        }
    }

    private string? NextProperty()
    {
        _json.Read();
        return _json.TokenType == JsonTokenType.EndObject ? null : Text();
    }

    private List<long> ReadIntegers(string key, string field)
    {
        var numbers = new List<long>();
        Expect(JsonTokenType.StartArray, key, $"{field} is not an array");
        while (_json.Read() && _json.TokenType != JsonTokenType.EndArray)
        {
            if (_json.TokenType != JsonTokenType.Number || !_json.TryGetInt64(out var number) || number < 0)
            {
                var text = SafeTensorsException.Shorten(Encoding.UTF8.GetString(_json.ValueSpan));
                throw Fault(key, $"{field} has '{text}', which is not a whole number from 0 to 2^63 - 1");
            }

            numbers.Add(number);
        }

        return numbers;
    }

    private void Expect(JsonTokenType type, string? key, string fault)
    {
        _json.Read();
        if (_json.TokenType != type)
        {
            throw Fault(key, fault);
        }
    }

    private readonly string Text()
    {
        try
        {
            return _json.GetString()!;
        }
        catch (InvalidOperationException fault)
        {
            throw new SafeTensorsException(_path, null, $"the header has a string with half of a surrogate pair at byte {_json.TokenStartIndex}", fault);
        }
    }

    private readonly SafeTensorsException Fault(string? key, string fault) => new(_path, key, fault);
}
