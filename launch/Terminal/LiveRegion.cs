using System.Text;
using System.Threading.Channels;

namespace Moe.Launch.Terminal;

/// <summary>A few lines at the bottom of a terminal that change in place; what is said once scrolls by above them.</summary>
/// <remarks>
/// One task draws, at most so often that an eye can follow, and once a second by itself, since ages and times go on. The lines follow the
/// terminal's width: where it became narrower, the terminal has wrapped the lines drawn before, and they are counted as it wrapped them.
/// </remarks>
internal sealed class LiveRegion : IAsyncDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Rest = TimeSpan.FromMilliseconds(60);

    private readonly Channel<Action> _changes = Channel.CreateUnbounded<Action>();
    private readonly StringBuilder _said = new();
    private readonly Screen _screen;
    private readonly Task _drawing;

    private Func<int, int, IReadOnlyList<StyledLine>> _draw = (_, _) => [];
    private IReadOnlyList<int> _drawn = [];

    /// <param name="screen">A terminal that can move its cursor.</param>
    public LiveRegion(Screen screen)
    {
        _screen = screen;
        _drawing = Task.Run(DrawAsync);
    }

    /// <summary>Has something changed before the next drawing. The action may call <see cref="Show"/> and <see cref="Say"/>; no other thread runs one meanwhile.</summary>
    public void Change(Action change) => _changes.Writer.TryWrite(change);

    /// <summary>Sets what draws the lines from now on.</summary>
    /// <param name="draw">Given the columns and the lines that there are.</param>
    public void Show(Func<int, int, IReadOnlyList<StyledLine>> draw) => _draw = draw;

    /// <summary>Says a line once, above the lines that change.</summary>
    public void Say(string text) => _said.Append(text).Append('\n');

    /// <summary>Draws for the last time and leaves the lines standing.</summary>
    public async ValueTask DisposeAsync()
    {
        _changes.Writer.TryComplete();
        await _drawing.ConfigureAwait(false);
    }

    private async Task DrawAsync()
    {
        var reader = _changes.Reader;
        for (var isOpen = true; isOpen;)
        {
            using var patience = new CancellationTokenSource(Interval);
            try
            {
                isOpen = await reader.WaitToReadAsync(patience.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                // Nothing happened, but time went on.
            }

            while (reader.TryRead(out var change))
            {
                change();
            }

            Draw();
            if (isOpen)
            {
                await Task.Delay(Rest).ConfigureAwait(false);
            }
        }

        if (_drawn.Count > 0)
        {
            _screen.Output.WriteLine();
            _screen.Output.Flush();
        }
    }

    private void Draw()
    {
        var (width, height) = (_screen.Width, _screen.Height);
        var lines = _draw(width - 1, height - 1); // a full line would wrap on some terminals
        if (lines.Count == 0 && _said.Length == 0)
        {
            return;
        }

        var frame = new StringBuilder();
        if (_drawn.Count > 0)
        {
            // The cursor stands in the last line's last row.
            var rows = _drawn.Sum(length => Math.Max(1, (length + width - 1) / width)) - 1;
            frame.Append('\r').Append(rows > 0 ? FormattableString.Invariant($"\u001b[{rows}A") : "").Append("\u001b[J");
        }

        frame.Append(_said);
        _said.Clear();
        _drawn = [.. lines.Take(Math.Max(1, height - 1)).Select(line => Math.Min(line.Length, width - 1))];
        for (var i = 0; i < _drawn.Count; i++)
        {
            frame.Append(i > 0 ? "\n" : "");
            lines[i].Write(frame, width - 1, _screen.IsColored);
        }

        _screen.Output.Write(frame.ToString());
        _screen.Output.Flush();
    }
}
