using System.Globalization;
using System.Reflection;
using System.Security;
using NUnit.Framework.Api;
using NUnit.Framework.Interfaces;
using NUnit.Framework.Internal;

namespace Moe.Tests;

/// <summary>Runs tests of this assembly without the SDK, where only a published program goes: <c>Moe.Tests run Cuda</c> on a GPU machine (docs/gpu.md).</summary>
internal static class TestRunner
{
    public const string Command = "run";

    /// <summary>Runs the tests of a category, prints what failed, and closes with <c>N passed, N failed, N skipped</c>.</summary>
    /// <param name="arguments">The category, and optionally a part of the full name.</param>
    /// <returns>0 where at least one passed and none failed.</returns>
    public static int Run(string[] arguments)
    {
        if (arguments is not [var category, .. var names])
        {
            Console.Error.WriteLine("usage: Moe.Tests run CATEGORY [PART OF THE FULL NAME]");
            return 1;
        }

        var runner = new NUnitTestAssemblyRunner(new DefaultTestAssemblyBuilder());
        runner.Load(Assembly.GetExecutingAssembly(), new Dictionary<string, object>());
        var filter = $"<cat>{SecurityElement.Escape(category)}</cat>"
            + string.Concat(names.Select(name => $"<test re='1'>{SecurityElement.Escape(name)}</test>"));
        var result = runner.Run(new FailurePrinter(), TestFilter.FromXml($"<filter><and>{filter}</and></filter>"));
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"{result.PassCount} passed, {result.FailCount} failed, {result.SkipCount + result.InconclusiveCount} skipped"));
        return result is { FailCount: 0, PassCount: > 0 } ? 0 : 1;
    }

    private sealed class FailurePrinter : ITestListener
    {
        public void TestStarted(ITest test)
        {
        }

        public void TestFinished(ITestResult result)
        {
            if (!result.Test.IsSuite && result.ResultState.Status == TestStatus.Failed)
            {
                Console.WriteLine($"FAILED {result.FullName}\n{result.Message}\n{result.StackTrace}");
            }
        }

        public void TestOutput(TestOutput output)
        {
        }

        public void SendMessage(TestMessage message)
        {
        }
    }
}
