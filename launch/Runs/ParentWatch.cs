namespace Moe.Launch.Runs;

/// <summary>Lets a launcher that a sweep started stop when the sweep is gone: then its standard input, a pipe from there, ends.</summary>
internal static class ParentWatch
{
    /// <summary>Set by whoever holds the other end of standard input.</summary>
    public const string Variable = "MOE_STOP_WITH_STDIN";

    /// <summary>Watches from now on, if the environment asks for it.</summary>
    /// <param name="variable">Environment variables by name.</param>
    /// <param name="stop">Called once, with the reason.</param>
    public static void Start(Func<string, string?> variable, Action<string> stop)
    {
        if (variable(Variable) is not { Length: > 0 })
        {
            return;
        }

        new Thread(() =>
        {
            using var input = Console.OpenStandardInput();
            while (input.ReadByte() >= 0)
            {
                // Nothing is said on it; only its end counts.
            }

            stop("end of the sweep's launcher");
        })
        {
            IsBackground = true,
            Name = "parent",
        }.Start();
    }
}
