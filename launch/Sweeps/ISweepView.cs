namespace Moe.Launch.Sweeps;

/// <summary>Shows a sweep while it lasts. One call at a time; a call returns soon.</summary>
internal interface ISweepView : IAsyncDisposable
{
    /// <summary>All points are checked; some may have been done before.</summary>
    public void Started(IReadOnlyList<PointProgress> points);

    /// <summary>A point has started or ended.</summary>
    public void Changed(PointProgress point);

    /// <summary>A point has made steps.</summary>
    public void Progressed(PointProgress point);

    /// <summary>A word of the sweep itself.</summary>
    public void Notice(string text);
}
