using System.Globalization;
using System.Net;
using System.Text;

namespace Moe.Launch.Sweeps;

/// <summary>One diagram of an SVG picture: frame, ticks, lines and dots. Colours are classes of the picture's style.</summary>
internal sealed class SvgPanel
{
    private readonly StringBuilder _svg;
    private readonly double _left, _top, _width, _height;
    private readonly PlotAxis _x, _y;

    /// <param name="svg">The picture.</param>
    /// <param name="frame">Left, top, width and height of the diagram's field, in pixels.</param>
    /// <param name="x">Across.</param>
    /// <param name="y">Upwards.</param>
    /// <param name="title">Above it.</param>
    /// <param name="xTitle">Below it.</param>
    /// <param name="categories">Names for the places 0, 1, ... of the x axis, where it has no numbers.</param>
    public SvgPanel(StringBuilder svg, (double Left, double Top, double Width, double Height) frame, PlotAxis x, PlotAxis y, string title, string xTitle, IReadOnlyList<string>? categories = null)
    {
        (_svg, _x, _y) = (svg, x, y);
        (_left, _top, _width, _height) = frame;
        Write($"<rect class=\"frame\" x=\"{_left:0.#}\" y=\"{_top:0.#}\" width=\"{_width:0.#}\" height=\"{_height:0.#}\"/>");
        Label(_left, _top - 10, "start", title, "title");
        Label(_left + (_width / 2), _top + _height + 36, "middle", xTitle);
        var ticks = categories is null ? x.Ticks().Select(tick => (At: tick, Text: PlotAxis.Text(tick))) : categories.Select((name, i) => (At: (double)i, Text: name));
        foreach (var (at, text) in ticks)
        {
            Label(X(at), _top + _height + 18, "middle", text);
        }

        foreach (var tick in y.Ticks())
        {
            Write($"<line class=\"grid\" x1=\"{_left:0.#}\" y1=\"{Y(tick):0.#}\" x2=\"{_left + _width:0.#}\" y2=\"{Y(tick):0.#}\"/>");
            Label(_left - 6, Y(tick) + 4, "end", PlotAxis.Text(tick));
        }
    }

    /// <summary>A line through points; it breaks where a value is not finite.</summary>
    public void Line(IEnumerable<(double X, double Y)> points, int series, bool faint = false)
    {
        var path = new StringBuilder();
        var isDown = false;
        foreach (var (x, y) in points)
        {
            if (double.IsFinite(y))
            {
                path.Append(CultureInfo.InvariantCulture, $"{(isDown ? "L" : "M")}{X(x):0.#} {Y(y):0.#}");
            }

            isDown = double.IsFinite(y);
        }

        Write($"<path class=\"{Class(series)}{(faint ? " faint" : "")}\" d=\"{path}\"/>");
    }

    /// <summary>A dot, with what it stands for as its title.</summary>
    public void Dot(double x, double y, int series, string name, bool large = false) =>
        Write($"<circle class=\"{Class(series)} dot\" cx=\"{X(x):0.#}\" cy=\"{Y(y):0.#}\" r=\"{(large ? 4.5 : 2.5)}\"><title>{Escape(name)}</title></circle>");

    /// <summary>A bar from one value up to another.</summary>
    public void Bar(double x, double low, double high, int series) =>
        Write($"<path class=\"{Class(series)}\" d=\"M{X(x):0.#} {Y(low):0.#}L{X(x):0.#} {Y(high):0.#}M{X(x) - 5:0.#} {Y(low):0.#}h10M{X(x) - 5:0.#} {Y(high):0.#}h10\"/>");

    /// <summary>Class of a series: its colour and, where colours come again, its dashes.</summary>
    public static string Class(int series) => FormattableString.Invariant($"s{series % 8}{(series / 8 % 2 == 1 ? " dashed" : "")}");

    /// <summary>Text for an attribute or an element.</summary>
    public static string Escape(string text) => WebUtility.HtmlEncode(text);

    private double X(double value) => _left + (_width * _x.Place(value));

    private double Y(double value) => _top + (_height * (1 - _y.Place(value)));

    private void Label(double x, double y, string anchor, string text, string style = "label") =>
        Write($"<text class=\"{style}\" x=\"{x:0.#}\" y=\"{y:0.#}\" text-anchor=\"{anchor}\">{Escape(text)}</text>");

    private void Write(FormattableString element) => _svg.Append(element.ToString(CultureInfo.InvariantCulture)).Append('\n');
}
