namespace Moe.Training.Reports;

/// <summary>
/// Keeps tables that follow each other (a number of each expert, of each rank) in a fixed number of columns: a column is the mean of its rows, and when
/// the columns are full, neighbours join.
/// </summary>
/// <param name="cells">Numbers kept in all; wide tables have fewer columns, but never fewer than two.</param>
/// <param name="most">Columns kept at most.</param>
public sealed class TableSampler(int cells = 150_000, int most = 160)
{
    private readonly List<Column> _columns = [];
    private int _rowsPerColumn = 1;

    /// <summary>Takes in a row. One of another length begins anew: a run that continues on other ranks has others to show.</summary>
    /// <param name="step">Not below that of the row before.</param>
    /// <param name="row">Finite numbers.</param>
    public void Add(long step, ReadOnlySpan<double> row)
    {
        if (_columns.Count > 0 && _columns[0].Sums.Length != row.Length)
        {
            _columns.Clear();
            _rowsPerColumn = 1;
        }

        if (_columns.Count > 0 && _columns[^1].Rows < _rowsPerColumn)
        {
            _columns[^1].Add(step, row);
            return;
        }

        if (_columns.Count >= Math.Clamp(cells / Math.Max(1, row.Length), 2, most) / 2 * 2)
        {
            Join();
        }

        var column = new Column(step, new double[row.Length]);
        column.Add(step, row);
        _columns.Add(column);
    }

    /// <summary>The columns in the order of their steps.</summary>
    public IReadOnlyList<Column> Columns => _columns;

    private void Join()
    {
        for (var i = 0; i < _columns.Count / 2; i++)
        {
            _columns[2 * i].Add(_columns[(2 * i) + 1]);
            _columns[i] = _columns[2 * i];
        }

        _columns.RemoveRange(_columns.Count / 2, _columns.Count - (_columns.Count / 2));
        _rowsPerColumn *= 2;
    }

    /// <summary>Rows of some steps as one.</summary>
    /// <param name="firstStep">Step of the first.</param>
    /// <param name="sums">Their sum.</param>
    public sealed class Column(long firstStep, double[] sums)
    {
        /// <summary>Step of the first row.</summary>
        public long FirstStep => firstStep;

        /// <summary>Step of the last row.</summary>
        public long LastStep { get; private set; }

        /// <summary>Rows in it.</summary>
        public int Rows { get; private set; }

        /// <summary>The mean of the rows.</summary>
        public IEnumerable<double> Mean => sums.Select(sum => sum / Rows);

        internal double[] Sums => sums;

        internal void Add(long step, ReadOnlySpan<double> row)
        {
            for (var i = 0; i < row.Length; i++)
            {
                sums[i] += row[i];
            }

            LastStep = step;
            Rows++;
        }

        internal void Add(Column later)
        {
            for (var i = 0; i < sums.Length; i++)
            {
                sums[i] += later.Sums[i];
            }

            LastStep = later.LastStep;
            Rows += later.Rows;
        }
    }
}
