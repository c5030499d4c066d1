using System.Globalization;
using System.Text;

namespace Moe.Launch.Dashboard;

/// <summary>Writes metrics in Prometheus' text format, version 0.0.4: HELP and TYPE once, then all samples of a metric together.</summary>
/// <remarks>https://prometheus.io/docs/instrumenting/exposition_formats/</remarks>
internal sealed class PrometheusText
{
    public const string ContentType = "text/plain; version=0.0.4; charset=utf-8";

    private readonly Dictionary<string, (string Help, string Type, StringBuilder Samples)> _metrics = [];

    /// <summary>Adds a sample. A value that is missing leaves none.</summary>
    /// <param name="name">Letters, digits and underscores, with its unit.</param>
    /// <param name="type"><c>gauge</c> or <c>counter</c>.</param>
    /// <param name="help">What it is, in one line.</param>
    /// <param name="value">May be NaN or infinite, which the format has; null for none.</param>
    /// <param name="labels">Any text as values.</param>
    public void Add(string name, string type, string help, double? value, params ReadOnlySpan<(string Name, string Value)> labels)
    {
        if (value is not { } number)
        {
            return;
        }

        if (!_metrics.TryGetValue(name, out var metric))
        {
            _metrics[name] = metric = (help, type, new StringBuilder());
        }

        metric.Samples.Append(name);
        for (var i = 0; i < labels.Length; i++)
        {
            metric.Samples.Append(i == 0 ? '{' : ',').Append(labels[i].Name).Append("=\"").Append(EscapeLabel(labels[i].Value)).Append('"');
        }

        metric.Samples.Append(labels.Length > 0 ? "} " : " ").Append(Number(number)).Append('\n');
    }

    /// <summary>The page for the scraper.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        foreach (var (name, metric) in _metrics)
        {
            text.Append("# HELP ").Append(name).Append(' ').Append(EscapeHelp(metric.Help)).Append('\n')
                .Append("# TYPE ").Append(name).Append(' ').Append(metric.Type).Append('\n').Append(metric.Samples);
        }

        return text.ToString();
    }

    private static string EscapeHelp(string text) => text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);

    private static string EscapeLabel(string text) => EscapeHelp(text).Replace("\"", "\\\"", StringComparison.Ordinal);

    private static string Number(double value) => value switch
    {
        double.PositiveInfinity => "+Inf",
        double.NegativeInfinity => "-Inf",
        _ => value.ToString("R", CultureInfo.InvariantCulture), // NaN is written as the format has it
    };
}
