using Moe.Data;
using NUnit.Framework;
using NUnit.Framework.Constraints;

namespace Moe.Tests.Data;

internal static class Refusal
{
    /// <summary>A <see cref="DataException"/> whose message holds each of the parts.</summary>
    public static IResolveConstraint Refuses(params string[] parts)
    {
        var refusal = Throws.TypeOf<DataException>().With.Message.Contains(parts[0]);
        foreach (var part in parts.Skip(1))
        {
            refusal = refusal.And.Message.Contains(part);
        }

        return refusal;
    }
}
