namespace Moe.Tests.Optimizers.Golden;

/// <summary>Runs one of our optimizers as a golden file's program was run, and compares the numbers.</summary>
public interface IGoldenReplay
{
    /// <summary>Whether the file's source is a program that this replay stands for.</summary>
    public bool Understands(GoldenFile file);

    /// <summary>Runs all steps; fails where a number differs, or where a setting has no counterpart.</summary>
    public void Replay(GoldenFile file);
}
