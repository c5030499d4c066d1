using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace Moe.Training.Configuration;

/// <summary>A part of a YAML document; lines and columns count from 1.</summary>
internal abstract record YamlNode(ConfigOrigin Origin);

/// <summary>Text; plain when written without quotes, so that it may mean a number, true, false or null.</summary>
internal sealed record YamlScalar(ConfigOrigin Origin, string Text, bool IsPlain) : YamlNode(Origin);

internal sealed record YamlSequence(ConfigOrigin Origin, IReadOnlyList<YamlNode> Items) : YamlNode(Origin);

internal sealed record YamlMapping(ConfigOrigin Origin, IReadOnlyList<KeyValuePair<YamlScalar, YamlNode>> Entries) : YamlNode(Origin);

/// <summary>
/// Reads one YAML document into nodes that know their place. What a configuration doesn't need and a reader would stumble over
/// (anchors, tags, several documents) is refused by name.
/// </summary>
internal sealed class YamlTree
{
    /// <summary>Deeper than any configuration; keeps hostile input from exhausting the stack.</summary>
    private const int MaximumDepth = 32;

    private readonly string _source;
    private readonly Scanner _scanner;
    private readonly Parser _events;
    private readonly ICollection<ConfigFault> _faults;

    private YamlTree(string text, string source, ICollection<ConfigFault> faults)
    {
        _source = source;
        _faults = faults;
        _scanner = new Scanner(new StringReader(text));
        _events = new Parser(_scanner);
    }

    /// <param name="text">One document, which may be empty.</param>
    /// <param name="source">Named in the origins: a file or <c>--set</c>.</param>
    /// <param name="faults">Receives what is refused.</param>
    /// <returns>The document; null where it is empty or its syntax is broken.</returns>
    public static YamlNode? Read(string text, string source, ICollection<ConfigFault> faults)
    {
        var tree = new YamlTree(text, source, faults);
        try
        {
            return tree.ReadDocument();
        }
        catch (YamlException e) when (e.Message.Contains("invalid tab", StringComparison.Ordinal))
        {
            faults.Add(new ConfigFault(Place(source, tree._scanner.CurrentPosition), "", "isn't YAML: a tab indents this line, where YAML takes spaces"));
        }
        catch (YamlException e)
        {
            var begin = e.Start.Line == e.End.Line ? "" : $" (in what begins at line {e.Start.Line})";
            faults.Add(new ConfigFault(Place(source, e.End), "", $"isn't YAML: {e.Message.TrimEnd('.')}{begin}"));
        }
        catch (Exception e) when (e is InvalidOperationException or ArgumentException or NullReferenceException)
        {
            // The scanner's answer to some text that breaks off inside brackets or directives; only its position says where.
            faults.Add(new ConfigFault(Place(source, tree._scanner.CurrentPosition), "", "isn't YAML: cannot be understood here"));
        }

        return null;
    }

    private static ConfigOrigin Place(string source, Mark mark) =>
        source == ConfigOrigin.Set.Source ? ConfigOrigin.Set : new(source, (int)mark.Line, (int)mark.Column);

    private YamlNode? ReadDocument()
    {
        _events.MoveNext(); // the stream's start
        _events.MoveNext();
        if (_events.Current is StreamEnd)
        {
            return null;
        }

        _events.MoveNext(); // past the document's start
        var root = ReadNode(0);
        _events.MoveNext(); // the document's end
        if (_events.Current is not StreamEnd)
        {
            Refuse(_events.Current!.Start, "a second document begins; a configuration is one document");
        }

        return root;
    }

    /// <summary>Reads the node that the current event begins and moves past it.</summary>
    private YamlNode ReadNode(int depth)
    {
        var start = _events.Current!;
        var origin = Place(_source, start.Start);
        RefuseProperties(start);
        if (start is MappingStart or SequenceStart && depth == MaximumDepth)
        {
            throw new YamlException(start.Start, start.End, $"Nested deeper than {MaximumDepth} levels");
        }

        _events.MoveNext();
        return start switch
        {
            Scalar scalar => new YamlScalar(origin, scalar.Value, scalar.Style == ScalarStyle.Plain),
            SequenceStart => ReadSequence(origin, depth),
            MappingStart => ReadMapping(origin, depth),
            _ => new YamlScalar(origin, "", IsPlain: true), // an alias, refused above
        };
    }

    private YamlSequence ReadSequence(ConfigOrigin origin, int depth)
    {
        var items = new List<YamlNode>();
        while (_events.Current is not SequenceEnd)
        {
            items.Add(ReadNode(depth + 1));
        }

        _events.MoveNext();
        return new YamlSequence(origin, items);
    }

    private YamlMapping ReadMapping(ConfigOrigin origin, int depth)
    {
        var entries = new List<KeyValuePair<YamlScalar, YamlNode>>();
        while (_events.Current is not MappingEnd)
        {
            var key = ReadNode(depth + 1);
            var value = ReadNode(depth + 1);
            if (key is YamlScalar name)
            {
                entries.Add(new(name, value));
            }
            else
            {
                _faults.Add(new ConfigFault(key.Origin, "", "a key must be a plain name, not a list or a mapping"));
            }
        }

        _events.MoveNext();
        return new YamlMapping(origin, entries);
    }

    private void RefuseProperties(ParsingEvent start)
    {
        const string Instead = "configurations share values through a parent file instead (extends: other.yaml)";
        if (start is AnchorAlias alias)
        {
            Refuse(start.Start, $"*{alias.Value} refers to an anchor; {Instead}");
        }

        if (start is NodeEvent { Anchor.IsEmpty: false } anchored)
        {
            Refuse(start.Start, $"&{anchored.Anchor} is an anchor; {Instead}");
        }

        if (start is NodeEvent { Tag: { IsEmpty: false, IsNonSpecific: false } } tagged)
        {
            Refuse(start.Start, $"the tag {tagged.Tag} is not needed: a key's type is known");
        }
    }

    private void Refuse(Mark mark, string what) => _faults.Add(new ConfigFault(Place(_source, mark), "", what));
}
