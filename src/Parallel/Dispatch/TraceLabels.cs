namespace Moe.Distributed;

/// <summary>Labels for collectives that start where the training loop is not: in a backward no one sets the layer.</summary>
public static class TraceLabels
{
    /// <summary>Starts a collective under a phase and layer of its own, and puts back what the loop had set.</summary>
    public static T Labelled<T>(this CollectiveTrace trace, string phase, int? layer, Func<T> start)
    {
        var (outerPhase, outerLayer) = (trace.Phase, trace.Layer);
        (trace.Phase, trace.Layer) = (phase, layer);
        var work = start();
        (trace.Phase, trace.Layer) = (outerPhase, outerLayer);
        return work;
    }
}
