// Draws a captured terminal (tmux capture-pane -e) as SVG: dotnet run --file scripts/AnsiToSvg.cs -- COLUMNS [FIRST LINE] < capture > picture.svg
// Understands what a capture holds: text, line ends, and SGR sequences with the 16 basic colours.
#:property PublishAot=false
#:property RestorePackagesWithLockFile=false
using System.Globalization;
using System.Net;
using System.Text;
using System.Text.RegularExpressions;

const double CellWidth = 7.8, CellHeight = 18, Margin = 12;
string[] palette =
[
    "#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4",
    "#6e7681", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#f0f6fc",
];
var columns = int.Parse(args[0], CultureInfo.InvariantCulture);
var lines = args.Skip(1).Concat(Console.In.ReadToEnd().TrimEnd().Split('\n')).SkipWhile(string.IsNullOrWhiteSpace).ToList();
var (width, height) = (columns * CellWidth + 2 * Margin, lines.Count * CellHeight + 2 * Margin);
var svg = new StringBuilder(string.Create(
    CultureInfo.InvariantCulture,
    $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"13\">\n"));
svg.Append("<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#0d1117\"/>\n");
string? color = null;
for (var row = 0; row < lines.Count; row++)
{
    var column = 0;
    foreach (Match piece in Regex.Matches(lines[row], "\u001b\\[([0-9;]*)m|([^\u001b]+)"))
    {
        if (piece.Groups[2] is not { Success: true, Value: var text })
        {
            color = Color(piece.Groups[1].Value, color);
            continue;
        }

        // textLength keeps the columns where another font's letters are wider.
        var (x, y) = (Margin + column * CellWidth, Margin + (row + 0.75) * CellHeight);
        svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{x:0.#}\" y=\"{y:0.#}\" textLength=\"{text.Length * CellWidth:0.#}\" xml:space=\"preserve\" ");
        svg.Append(CultureInfo.InvariantCulture, $"fill=\"{color ?? "#c9d1d9"}\">{WebUtility.HtmlEncode(text)}</text>\n");
        column += text.Length;
    }
}

Console.Write(svg.Append("</svg>\n"));

string? Color(string codes, string? before)
{
    var numbers = codes.Split(';', StringSplitOptions.RemoveEmptyEntries).Select(code => int.Parse(code, CultureInfo.InvariantCulture)).ToArray();
    return numbers switch
    {
        [] or [0] or [39] => null,
        [38, 5, < 16 and var index] => palette[index],
        [>= 30 and <= 37 and var basic] => palette[basic - 30],
        [>= 90 and <= 97 and var bright] => palette[bright - 82],
        _ => before,
    };
}
