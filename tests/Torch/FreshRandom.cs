using System.Security.Cryptography;
using NUnit.Framework;

namespace Moe.Tests.Torch;

/// <summary>Random inputs that differ from run to run; the seed is printed, so that a failure can be had again.</summary>
internal static class FreshRandom
{
    internal static Random Create()
    {
        var seed = RandomNumberGenerator.GetInt32(int.MaxValue);
        TestContext.Out.WriteLine($"seed {seed}");
        return new Random(seed);
    }
}
