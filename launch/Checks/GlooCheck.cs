using Moe.Distributed;

namespace Moe.Launch.Checks;

/// <summary>Whether the store starts in which Gloo's ranks meet.</summary>
internal sealed class GlooCheck : Check
{
    public override string Name => "Gloo";

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        yield return Native.Try("Gloo: its store does not start", () =>
        {
            using var store = new StoreServer();
            return Finding.Works($"Gloo: its store listens (port {store.Port})");
        });
    }
}
