namespace Moe.Training.Configuration;

/// <summary>A configuration that cannot be run. Its message lists every fault, one a line, ready for the console; the exit code is 1.</summary>
public sealed class ConfigException : Exception
{
    /// <param name="faults">Everything found, at least one.</param>
    public ConfigException(IReadOnlyList<ConfigFault> faults)
        : base(string.Join('\n', faults)) => Faults = faults;

    /// <summary>A single fault that concerns no place in a file.</summary>
    /// <param name="key">Full path of the key, or empty.</param>
    /// <param name="what">What is wrong, with the numbers.</param>
    public ConfigException(string key, string what)
        : this([new ConfigFault(ConfigOrigin.Default, key, what)])
    {
    }

    /// <summary>Everything found, in the order of files and lines.</summary>
    public IReadOnlyList<ConfigFault> Faults { get; }
}
