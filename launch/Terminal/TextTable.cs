namespace Moe.Launch.Terminal;

/// <summary>Rows of text in columns as wide as their widest cell.</summary>
internal static class TextTable
{
    private const string Gap = "  ";

    /// <summary>Lays the rows out; where the width does not do, the first column is cut, and then whole columns from the last on.</summary>
    /// <param name="rows">Of equal length.</param>
    /// <param name="width">Widest line.</param>
    /// <param name="alignRight">Columns of numbers.</param>
    public static IEnumerable<string> Lines(IReadOnlyList<string[]> rows, int width, IReadOnlyList<int> alignRight)
    {
        const int NarrowestFirst = 16;
        var widths = Enumerable.Range(0, rows[0].Length).Select(column => rows.Max(row => row[column].Length)).ToList();
        var columns = Enumerable.Range(0, widths.Count).Where(column => widths[column] > 0).ToList();
        while (columns.Count > 1 && Total() - widths[0] + Math.Min(widths[0], NarrowestFirst) > width)
        {
            columns.RemoveAt(columns.Count - 1);
        }

        widths[0] = Math.Max(1, Math.Min(widths[0], widths[0] - (Total() - width)));
        foreach (var row in rows)
        {
            yield return string.Join(Gap, columns.Select(column => Cell(row[column], widths[column], alignRight.Contains(column)))).TrimEnd();
        }

        int Total() => columns.Sum(column => widths[column]) + (Gap.Length * (columns.Count - 1));
    }

    private static string Cell(string text, int width, bool right) =>
        text.Length > width ? text[..Math.Max(0, width - 2)] + ".." : right ? text.PadLeft(width) : text.PadRight(width);
}
