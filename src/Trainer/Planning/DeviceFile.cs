using System.Globalization;
using System.Text;
using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>Device records as YAML, see configs/devices; every number of a record that others may want to change stands in such a file.</summary>
public static class DeviceFile
{
    private const double Tera = 1e12, Giga = 1e9, Micro = 1e-6, Nano = 1e-9;
    private const double GiB = 1 << 30;

    /// <summary>Reads a record.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="ConfigException">Lists every fault with its line.</exception>
    /// <exception cref="IOException">The file can't be read.</exception>
    public static DeviceRecord Read(string path)
    {
        var faults = new List<ConfigFault>();
        var root = YamlTree.Read(File.ReadAllText(path), path, faults);
        if (faults.Count == 0 && root is not YamlMapping)
        {
            faults.Add(new ConfigFault(new ConfigOrigin(path, 1, 1), "", "isn't a device record: it has no keys; configs/devices/h100.yaml is one"));
        }

        if (faults.Count > 0)
        {
            throw new ConfigException(faults);
        }

        var reader = new Reading((YamlMapping)root!, faults);
        var record = new DeviceRecord
        {
            Name = reader.Text("name") ?? Path.GetFileNameWithoutExtension(path),
            Description = reader.Text("description") ?? "",
            Memory = reader.Number("memory_gib", GiB),
            ProcessMemory = reader.Number("process_gib", GiB),
            SharedCores = reader.Has("shared_cores") ? reader.Number("shared_cores", 1) : null,
            Peak = reader.Numbers("peak_tflops", Tera),
            Products = reader.Products("product_tflops"),
            GroupedProducts = reader.Has("grouped_tflops") ? reader.Products("grouped_tflops") : new Dictionary<string, IReadOnlyList<ProductRate>>(),
            Attention = reader.Numbers("attention_tflops", Tera),
            CopyRate = reader.Number("copy_gb_per_s", Giga),
            LaunchTime = reader.Number("launch_us", Micro),
            Kernels = reader.Has("kernels_ns") ? reader.Numbers("kernels_ns", Nano) : new Dictionary<string, double>(),
            InsideNode = reader.Link("inside_node"),
            BetweenNodes = reader.Link("between_nodes"),
            Collectives = reader.Choice<CollectiveForm>("collectives"),
            Straggling = reader.Has("straggling") ? reader.Number("straggling", 1) : 1,
        };
        reader.RefuseUnread();
        return faults.Count == 0 ? record : throw new ConfigException(faults);
    }

    /// <summary>The record as <see cref="Read"/> takes it.</summary>
    public static string Write(DeviceRecord record)
    {
        var text = new StringBuilder();
        Line($"name: {record.Name}");
        Line($"description: \"{record.Description.Replace('"', '\'')}\"");
        Line($"memory_gib: {record.Memory / GiB}");
        Line($"process_gib: {record.ProcessMemory / GiB}");
        if (record.SharedCores is { } cores)
        {
            Line($"shared_cores: {cores}");
        }

        Map("peak_tflops", record.Peak, Tera);
        Table("product_tflops", record.Products);
        Table("grouped_tflops", record.GroupedProducts);
        Map("attention_tflops", record.Attention, Tera);
        Line($"copy_gb_per_s: {record.CopyRate / Giga}");
        Line($"launch_us: {record.LaunchTime / Micro}");
        Map("kernels_ns", record.Kernels, Nano);
        Line($"inside_node: {{gb_per_s: {record.InsideNode.BytesPerSecond / Giga}, latency_us: {record.InsideNode.Latency / Micro}}}");
        Line($"between_nodes: {{gb_per_s: {record.BetweenNodes.BytesPerSecond / Giga}, latency_us: {record.BetweenNodes.Latency / Micro}}}");
        Line($"collectives: {ConfigChoices.Spelling(record.Collectives)}");
        Line($"straggling: {record.Straggling}");
        return text.ToString();

        void Line(FormattableString line) => text.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');

        void Map(string key, IReadOnlyDictionary<string, double> values, double unit)
        {
            if (values.Count > 0)
            {
                Line($"{key}:");
            }

            foreach (var (name, value) in values)
            {
                Line($"  {name}: {value / unit}");
            }
        }

        void Table(string key, IReadOnlyDictionary<string, IReadOnlyList<ProductRate>> tables)
        {
            if (tables.Count > 0)
            {
                Line($"{key}:");
            }

            foreach (var (type, rates) in tables)
            {
                Line($"  {type}:");
                foreach (var rate in rates)
                {
                    Line($"    - {{rows: {rate.Rows}, columns: {rate.Columns}, depth: {rate.Depth}, tflops: {rate.Rate / Tera}}}");
                }
            }
        }
    }

    private sealed class Reading(YamlMapping mapping, List<ConfigFault> faults, string path = "")
    {
        private readonly HashSet<string> _read = [];

        public bool Has(string key) => Find(key) is not null;

        public string? Text(string key) => Find(key) is YamlScalar scalar ? scalar.Text : null;

        public double Number(string key, double unit) => Number(Find(key), key) * unit;

        public Dictionary<string, double> Numbers(string key, double unit)
        {
            if (Required<YamlMapping>(key, "numbers by name") is not { } map)
            {
                return [];
            }

            return map.Entries.DistinctBy(entry => entry.Key.Text).ToDictionary(entry => entry.Key.Text, entry => Number(entry.Value, $"{key}.{entry.Key.Text}") * unit);
        }

        // By type one number for large products, or a list of measured ones.
        public Dictionary<string, IReadOnlyList<ProductRate>> Products(string key)
        {
            if (Required<YamlMapping>(key, "rates by type (float32, bfloat16, float64)") is not { } map)
            {
                return [];
            }

            return map.Entries.DistinctBy(entry => entry.Key.Text).ToDictionary(entry => entry.Key.Text, entry => (IReadOnlyList<ProductRate>)Rates(entry.Value, $"{key}.{entry.Key.Text}"));
        }

        public LinkRate Link(string key)
        {
            if (Required<YamlMapping>(key, "{gb_per_s: ..., latency_us: ...}") is not { } map)
            {
                return default;
            }

            var inner = new Reading(map, faults, $"{key}.");
            var link = new LinkRate(inner.Number("gb_per_s", Giga), inner.Number("latency_us", Micro));
            inner.RefuseUnread();
            return link;
        }

        public T Choice<T>(string key)
            where T : struct, Enum
        {
            if (Text(key) is not { } text)
            {
                return default;
            }

            foreach (var value in Enum.GetValues<T>())
            {
                if (ConfigChoices.Spelling(value) == text)
                {
                    return value;
                }
            }

            Refuse(Find(key)!, key, $"is '{text}'; it takes one of {string.Join(", ", Enum.GetValues<T>().Select(value => ConfigChoices.Spelling(value)))}");
            return default;
        }

        public void RefuseUnread()
        {
            foreach (var (key, _) in mapping.Entries.Where(entry => !_read.Contains(entry.Key.Text)))
            {
                faults.Add(new ConfigFault(key.Origin, path + key.Text, $"'{path}{key.Text}' is no key of a device record; the nearest is '{_read.MinBy(known => NearestKey.Distance(known, key.Text))}'"));
            }
        }

        private List<ProductRate> Rates(YamlNode node, string key)
        {
            if (node is not YamlSequence list)
            {
                return [new ProductRate(0, 0, 0, Number(node, key) * Tera)];
            }

            var rates = new List<ProductRate>();
            foreach (var item in list.Items)
            {
                if (item is not YamlMapping map)
                {
                    Refuse(item, key, "lists {rows: ..., columns: ..., depth: ..., tflops: ...}");
                    continue;
                }

                var inner = new Reading(map, faults, $"{key}.");
                rates.Add(new ProductRate((long)inner.Number("rows", 1), (long)inner.Number("columns", 1), (long)inner.Number("depth", 1), inner.Number("tflops", Tera)));
                inner.RefuseUnread();
            }

            if (rates.Count == 0)
            {
                Refuse(node, key, "is an empty list; it needs a rate");
            }

            return rates;
        }

        private double Number(YamlNode? node, string key)
        {
            if (node is YamlScalar scalar && double.TryParse(scalar.Text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && double.IsFinite(number) && number >= 0)
            {
                return number;
            }

            Refuse(node ?? mapping, key, node is YamlScalar text ? $"is '{text.Text}'; it takes a number of at least 0" : "is missing; it takes a number");
            return 1;
        }

        private T? Required<T>(string key, string takes)
            where T : YamlNode
        {
            var node = Find(key);
            if (node is T found)
            {
                return found;
            }

            Refuse(node ?? mapping, key, $"{(node is null ? "is missing" : "is of another form")}; it takes {takes}");
            return null;
        }

        private YamlNode? Find(string key)
        {
            _read.Add(key);
            return mapping.Entries.Where(entry => entry.Key.Text == key).Select(entry => entry.Value).FirstOrDefault(node => node is not YamlScalar { IsPlain: true, Text: "" or "null" or "~" });
        }

        private void Refuse(YamlNode node, string key, string why) => faults.Add(new ConfigFault(node.Origin, path + key, $"{path}{key} {why}"));
    }
}
