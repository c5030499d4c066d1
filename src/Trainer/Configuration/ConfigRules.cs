using System.Text.RegularExpressions;

namespace Moe.Training.Configuration;

/// <summary>What values a run may have: each key's declared range, and which combinations make sense. Touches no file and no machine.</summary>
public static partial class ConfigRules
{
    /// <summary>Names end in folders and in metric keys, where MLflow allows few other characters.</summary>
    private const int MaximumNameLength = 64;

    /// <param name="config">Values from anywhere; places aren't known, so the message names keys only.</param>
    /// <exception cref="ConfigException">Lists every value out of range and every impossible combination.</exception>
    public static void Validate(RunConfig config) => ThrowIfAny(Faults(config, new Dictionary<string, ConfigOrigin>(), new HashSet<string>()));

    /// <inheritdoc cref="ValidateMesh(ResolvedConfig, int)"/>
    public static void ValidateMesh(RunConfig config, int worldSize) =>
        ThrowIfAny(MeshFaults(new ResolvedConfig(config, new Dictionary<string, ConfigOrigin>(), []), worldSize));

    /// <summary>Checks what only the number of ranks decides.</summary>
    /// <param name="resolved">Already checked by itself.</param>
    /// <param name="worldSize">Ranks of the run, at least 1.</param>
    /// <exception cref="ConfigException">The ranks or the experts don't divide by <c>parallel.expert_parallel</c>; names the nearest values that do.</exception>
    public static void ValidateMesh(ResolvedConfig resolved, int worldSize) => ThrowIfAny(MeshFaults(resolved, worldSize));

    /// <param name="config">What was read, with defaults where a key wasn't.</param>
    /// <param name="origins">Places of the keys that were set.</param>
    /// <param name="unread">Keys already refused; rules about them stay silent.</param>
    internal static List<ConfigFault> Faults(RunConfig config, IReadOnlyDictionary<string, ConfigOrigin> origins, IReadOnlySet<string> unread)
    {
        var faults = new List<ConfigFault>();
        var silent = new HashSet<string>(unread);

        void Check(ConfigKey key, string path, object? value)
        {
            if (!silent.Contains(path) && RangeFault(key, value) is { } fault)
            {
                silent.Add(path);
                silent.Add(key.Path);
                faults.Add(new ConfigFault(origins.GetValueOrDefault(path, ConfigOrigin.Default), path, $"{path} {fault}"));
            }
        }

        foreach (var (key, value) in ConfigSchema.Root.Values(config))
        {
            Check(key, key.Path, value);
            foreach (var (item, index) in ((value as IEnumerable<object>) ?? []).Select((item, index) => (item, index)))
            {
                foreach (var (itemKey, itemValue) in key.Items!.Values(item))
                {
                    Check(itemKey, $"{key.Path}[{index}].{itemKey.Path}", itemValue);
                }
            }
        }

        foreach (var rule in CombinationRules.All.Where(r => !r.Keys.Any(silent.Contains)))
        {
            if (rule.Check(config) is { } what)
            {
                faults.Add(new ConfigFault(Place(rule.Keys, origins), rule.Keys[0], what, rule.Remedy?.Invoke(config)));
            }
        }

        // Rules are about this model's parameters, which only a model in order has.
        if (!silent.Concat(faults.Select(fault => fault.Key)).Any(key => key.StartsWith("model.", StringComparison.Ordinal) || key.StartsWith("optimizer.rules", StringComparison.Ordinal)
            || key.StartsWith("optimizer.mkor.skip", StringComparison.Ordinal)))
        {
            faults.AddRange(OptimizerRuleFaults.Of(config, origins));
        }

        return faults;
    }

    /// <summary>Keys set to something that has no effect beside the others, and combinations that are legal but rarely meant.</summary>
    internal static List<ConfigFault> Warnings(RunConfig config, IReadOnlyDictionary<string, ConfigOrigin> origins)
    {
        var idle = ConfigSchema.Root.Values(config)
            .Where(v => v.Key.Setting.When is { } when && origins.ContainsKey(v.Key.Path) && !Equals(v.Value, v.Key.Default) && !Holds(when, config))
            .Select(v => new ConfigFault(origins[v.Key.Path], v.Key.Path,
                $"{v.Key.Path} {ConfigScalar.Write(v.Value)} has no effect: it counts with {v.Key.Setting.When}"));
        var doubtful = CombinationRules.Doubts
            .Where(r => r.Check(config) is not null)
            .Select(r => new ConfigFault(Place(r.Keys, origins), r.Keys[0], r.Check(config)!, r.Remedy?.Invoke(config)));
        return [.. idle, .. doubtful];
    }

    internal static void ThrowIfAny(IReadOnlyList<ConfigFault> faults)
    {
        if (faults.Count > 0)
        {
            throw new ConfigException(faults);
        }
    }

    private static List<ConfigFault> MeshFaults(ResolvedConfig resolved, int worldSize)
    {
        const string Key = "parallel.expert_parallel";
        var config = resolved.Config;
        var experts = config.Model.Moe.Experts;
        var size = config.Parallel.ExpertParallel ?? worldSize;
        var said = config.Parallel.ExpertParallel is null ? $"{Key} is all {worldSize} ranks" : $"{Key} is {size}";
        var valid = Enumerable.Range(1, int.Min(worldSize, experts)).Where(n => worldSize % n == 0 && experts % n == 0).ToList();
        var remedy = $"the nearest valid value is {valid.MinBy(n => (int.Abs(n - size), n))} "
            + $"(for {worldSize} ranks and {experts} experts: {string.Join(", ", valid)})";

        var faults = new List<ConfigFault>();
        if (worldSize % size != 0)
        {
            faults.Add(resolved.Fault(Key, $"{said}, which doesn't divide the {worldSize} ranks of the run", remedy));
        }

        if (experts % size != 0)
        {
            var fewer = experts - experts % size;
            var counts = fewer == 0 ? $"{size}" : $"{fewer} or {fewer + size}";
            faults.Add(resolved.Fault(Key, $"{said}, which doesn't divide the {experts} experts (model.moe.experts)", $"{remedy}, or set model.moe.experts to {counts}"));
        }

        if (config.Parallel.Dispatcher == DispatcherName.Local && size > 1)
        {
            faults.Add(resolved.Fault("parallel.dispatcher", $"parallel.dispatcher local sends no rows to other ranks, but the experts are spread over {size}",
                "set parallel.expert_parallel to 1, or the dispatcher to auto"));
        }

        if (config.Optimizer.ExpertsInBackward && size != worldSize)
        {
            faults.Add(resolved.Fault("optimizer.experts_in_backward",
                $"optimizer.experts_in_backward is for experts that one rank alone holds, but {said} of {worldSize}, so that {worldSize / Math.Max(1, size)} ranks hold each",
                $"set {Key} to {worldSize}, or optimizer.experts_in_backward to false"));
        }

        if (config.Train.GraphCapture && worldSize > 1)
        {
            faults.Add(resolved.Fault("train.graph_capture", $"train.graph_capture holds for one rank, whose shapes stand still, but the run has {worldSize}",
                "set train.graph_capture to false"));
        }

        return faults;
    }

    /// <summary>Where the first of the keys stands that somebody set.</summary>
    private static ConfigOrigin Place(IEnumerable<string> keys, IReadOnlyDictionary<string, ConfigOrigin> origins) =>
        keys.Where(origins.ContainsKey).Select(k => origins[k]).FirstOrDefault(ConfigOrigin.Default);

    private static string? RangeFault(ConfigKey key, object? value)
    {
        var setting = key.Setting;
        var isFit = value switch
        {
            string text when setting.IsName => text.Length <= MaximumNameLength && Name().IsMatch(text),
            string text => text.Length > 0,
            Enum choice => Enum.IsDefined(key.Type, choice),
            int or ulong or double => IsInRange(setting, Convert.ToDouble(value, System.Globalization.CultureInfo.InvariantCulture)),
            _ => true,
        };
        return isFit ? null : $"is {ConfigScalar.Shorten(ConfigScalar.Write(value))}; it takes {ConfigScalar.Describe(key)}";
    }

    private static bool IsInRange(SettingAttribute s, double value) =>
        double.IsFinite(value) && !(value < s.AtLeast) && !(value <= s.Above) && !(value > s.AtMost) && !(value >= s.Below);

    private static bool Holds(string when, RunConfig config)
    {
        var equals = when.Split('=');
        if (equals[0] == "optimizer.name")
        {
            return config.Optimizer.Names.Select(name => ConfigChoices.Spelling(name)).Intersect(equals[1].Split('|')).Any();
        }

        var value = ConfigSchema.Root.Values(config).Single(v => v.Key.Path == equals[0]).Value;
        return equals.Length == 1 ? value is not null : equals[1].Split('|').Contains(ConfigScalar.Write(value));
    }

    [GeneratedRegex(@"^[A-Za-z0-9_-][A-Za-z0-9._-]*\z")]
    private static partial Regex Name();
}
