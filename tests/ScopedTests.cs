using Moe.Tests.Torch;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests;

/// <summary>A test fixture whose tests run inside a tensor scope, with fresh random numbers.</summary>
public abstract class ScopedTests
{
    private TensorScope _scope = null!;

    internal Random Random { get; private set; } = null!;

    [SetUp]
    public void Open()
    {
        _scope = new TensorScope();
        Random = FreshRandom.Create();
    }

    [TearDown]
    public void Close() => _scope.Dispose();
}
