namespace Moe.Training.Reports;

/// <summary>
/// Keeps a curve of any length in a fixed number of points: each place holds the lowest and the highest value of its rows, so that no peak is
/// lost; when the places are full, neighbours join. The last value is kept as it is.
/// </summary>
/// <param name="places">Places kept at least once there are as many rows; at most twice as many are held.</param>
public sealed class SeriesSampler(int places = 250)
{
    private readonly List<Place> _places = [];
    private int _rowsPerPlace = 1;
    private int _rowsInLast;
    private Point? _last;

    /// <summary>Takes in a value; one that is no finite number leaves no point.</summary>
    /// <param name="step">Not below that of the value before.</param>
    /// <param name="value">The value.</param>
    public void Add(long step, double value)
    {
        if (!double.IsFinite(value))
        {
            return;
        }

        var point = new Point(step, value);
        _last = point;
        if (_places.Count > 0 && _rowsInLast < _rowsPerPlace)
        {
            _places[^1] = _places[^1].With(new Place(point, point));
            _rowsInLast++;
            return;
        }

        if (_places.Count == 2 * places)
        {
            Join();
        }

        _places.Add(new Place(point, point));
        _rowsInLast = 1;
    }

    /// <summary>The points in the order of their steps, at most 4 * places + 1.</summary>
    public IReadOnlyList<Point> Points()
    {
        var points = new List<Point>();
        foreach (var place in _places)
        {
            var (first, second) = place.Low.Step <= place.High.Step ? (place.Low, place.High) : (place.High, place.Low);
            points.Add(first);
            if (second != first)
            {
                points.Add(second);
            }
        }

        if (_last is { } last && points[^1].Step < last.Step)
        {
            points.Add(last);
        }

        return points;
    }

    private void Join()
    {
        for (var i = 0; i < _places.Count / 2; i++)
        {
            _places[i] = _places[2 * i].With(_places[(2 * i) + 1]);
        }

        _places.RemoveRange(_places.Count / 2, _places.Count / 2);
        _rowsPerPlace *= 2;
    }

    /// <summary>A value of a curve.</summary>
    public readonly record struct Point(long Step, double Value);

    private readonly record struct Place(Point Low, Point High)
    {
        public Place With(Place other) => new(other.Low.Value < Low.Value ? other.Low : Low, other.High.Value > High.Value ? other.High : High);
    }
}
