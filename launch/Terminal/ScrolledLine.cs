using Spectre.Console.Rendering;

namespace Moe.Launch.Terminal;

/// <summary>A line that is said once and scrolls by above the live lines.</summary>
/// <remarks>Written where the live lines began, it first erases them: a shorter text would leave their ends behind it.</remarks>
internal sealed class ScrolledLine(string text) : Renderable
{
    private const string EraseToEndOfScreen = "\u001b[J";

    /// <inheritdoc/>
    protected override IEnumerable<Segment> Render(RenderOptions options, int maxWidth)
    {
        yield return Segment.Control(EraseToEndOfScreen);
        yield return new Segment(text);
        yield return Segment.LineBreak;
    }
}
