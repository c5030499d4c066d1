using FsCheck;
using FsCheck.Fluent;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Configuration;

internal sealed class ConfigurationPropertyTests
{
    private static readonly string[] Fragments =
    [
        "model:", "  moe:", "    experts: 4", "train:", "  steps: 5", "data:", "  domains:", "  - name: a", "    path: b", "extends: fuzz.yaml", "extends: ", "~", "null",
        "- ", "[", "]", "{", "}", ",", ": ", "? ", "&a ", "*a", "!!str ", "!<x> ", "%YAML 1.2", "---", "...", "|", ">-", "'", "\"", "\\x", "\t", "\r", "\0", "\u0085", "\ud800", "\ufeff",
        "#", "@", "`", "1e999", "-.inf", "0x", "-0", "1:2", "<<: ", "\"\\u", "  ", "\n", "\n\n", "model: {moe: {top_k: ", "}}", "\u2028", "\U0001F600", "é",
    ];

    private static readonly System.Text.Rune[] PathRunes =
        [.. "ab #:'\"\\,{}[]é-?!&*%@`~|>\t\n\u007f\u0085\u00a0\u2028\ufeff\ufffe\U0001F600".EnumerateRunes()];

    private ConfigurationFolder _folder = null!;
    private Random _random = null!;

    [SetUp]
    public void Seed()
    {
        var seed = Random.Shared.Next();
        TestContext.Out.WriteLine($"seed {seed}");
        _random = new Random(seed);
        _folder = new ConfigurationFolder();
    }

    [TearDown]
    public void RemoveFolder() => _folder.Dispose();

    [Test]
    public void Random_text_is_read_or_refused_but_never_breaks_the_reader()
    {
        for (var i = 0; i < 2000; i++)
        {
            var text = RandomText();
            var option = i % 3 == 0 ? RandomText() : $"{ConfigSchema.Keys[_random.Next(ConfigSchema.Keys.Count)].Path}={RandomText()}";
            MustReadOrRefuse(() => ConfigReader.Read(_folder.Write("fuzz.yaml", text), [option]), $"{text}\n--set {option}");
        }
    }

    [Test]
    public void Random_bytes_are_read_or_refused_but_never_break_the_reader()
    {
        var path = Path.Combine(_folder.Path, "bytes.yaml");
        for (var i = 0; i < 500; i++)
        {
            var bytes = new byte[_random.Next(200)];
            _random.NextBytes(bytes);
            File.WriteAllBytes(path, bytes);
            MustReadOrRefuse(() => ConfigReader.Read(path, []), Convert.ToHexString(bytes));
        }
    }

    [Test]
    public void Random_valid_configuration_reads_back_equal()
    {
        for (var i = 0; i < 300; i++)
        {
            var config = RandomConfig();
            var path = _folder.Write("config.yaml", ConfigYaml.Write(config));

            var read = ConfigReader.Read(path, []);

            Assert.That(read.Config, Is.EqualTo(config), File.ReadAllText(path));
            Assert.That(ConfigSchema.Keys.Where(k => read.Origins[k.Path].IsDefault), Is.Empty, "every key is written");
            foreach (var withMeanings in new[] { false, true })
            {
                var annotated = ConfigYaml.ToAnnotatedYaml(read, withMeanings);
                Assert.That(ConfigReader.Read(_folder.Write("annotated.yaml", annotated), []).Config, Is.EqualTo(config), annotated);
            }
        }
    }

    [FsCheck.NUnit.Property]
    public Property Edit_distance_is_a_metric() =>
        Prop.ForAll<string, string, string>((a, b, c) =>
        {
            (a, b, c) = (a ?? "", b ?? "", c ?? "");
            var distance = NearestKey.Distance(a, b);
            return distance == NearestKey.Distance(b, a)
                && distance == 0 == string.Equals(a, b, StringComparison.Ordinal)
                && distance <= NearestKey.Distance(a, c) + NearestKey.Distance(c, b)
                && distance >= int.Abs(a.Length - b.Length) && distance <= int.Max(a.Length, b.Length);
        });

    private static void MustReadOrRefuse(Action read, string input)
    {
        try
        {
            read();
        }
        catch (ConfigException e)
        {
            Assert.That(e.Faults, Is.Not.Empty);
        }
        catch (Exception e)
        {
            throw new AssertionException($"{e.GetType().Name} for:\n{input}", e);
        }
    }

    private string RandomText()
    {
        var parts = Enumerable.Range(0, _random.Next(14)).Select(_ => Fragments[_random.Next(Fragments.Length)] + (_random.Next(3) == 0 ? "\n" : ""));
        return string.Concat(parts);
    }

    /// <summary>Random values inside each key's range, drawn again until they make sense together.</summary>
    private RunConfig RandomConfig()
    {
        while (true)
        {
            var values = ConfigSchema.Keys.Where(k => _random.Next(3) == 0).ToDictionary(k => k.Path, RandomValue);
            values["data.domains"] = RandomDomains();
            var config = (RunConfig)ConfigSchema.Root.Build(values);
            try
            {
                ConfigRules.Validate(config);
                return config;
            }
            catch (ConfigException)
            {
                // Rules about several keys are not what this generator knows.
            }
        }
    }

    private object? RandomValue(ConfigKey key)
    {
        var s = key.Setting;
        if (key.IsNullable && _random.Next(3) == 0)
        {
            return null;
        }

        if (key.Type.IsEnum)
        {
            var choices = Enum.GetValues(key.Type);
            return choices.GetValue(_random.Next(choices.Length));
        }

        var low = !double.IsNaN(s.AtLeast) ? s.AtLeast : !double.IsNaN(s.Above) ? s.Above + 1e-12 : 0;
        var high = !double.IsNaN(s.AtMost) ? s.AtMost : !double.IsNaN(s.Below) ? s.Below : 1e6;
        return key.Type switch
        {
            var t when t == typeof(bool) => _random.Next(2) == 0,
            var t when t == typeof(double) => low + (high - low) * Math.Pow(_random.NextDouble(), 8),
            var t when t == typeof(int) => (int)low + _random.Next((int)double.Min(high - low, 64)),
            var t when t == typeof(ulong) => (ulong)_random.NextInt64() * 2 + 1,
            var t when t == typeof(string) => s.IsPath ? "/" + RandomName() : RandomName(),
            _ => key.Default,
        };
    }

    private ValueList<DomainConfig> RandomDomains() =>
    [
        .. Enumerable.Range(0, _random.Next(1, 4)).Select(i => new DomainConfig
        {
            Name = $"{RandomName()}{i}",
            Path = "/" + string.Concat(Enumerable.Range(0, _random.Next(1, 9)).Select(_ => PathRunes[_random.Next(PathRunes.Length)].ToString())),
            Weight = _random.NextDouble() + double.Epsilon,
        }),
    ];

    private string RandomName() => new[] { "no", "true", "null", "1e3", "0x10", "-", "12", "a.b", "_x-", "yes", "1.", "inf" }[_random.Next(12)];
}
