using System.Globalization;
using System.Text;

namespace Moe.Training.Planning;

/// <summary>Draws a <see cref="ScalingCurve"/>: tokens a second and utilisation over devices, one file without references.</summary>
public static class ScalingPicture
{
    private const int Width = 760, PlotWidth = 640, PlotHeight = 220, Left = 90, FirstTop = 64, SecondTop = 356;

    /// <summary>The picture as SVG.</summary>
    /// <param name="curve">With at least one point that has a plan.</param>
    public static string Draw(ScalingCurve curve)
    {
        var points = curve.Weak.Concat(curve.Strong).Where(point => point.Plan is not null).ToList();
        var plan = points[0].Plan!;
        var (low, high) = (Math.Log2(curve.Weak[0].Ranks), Math.Max(Math.Log2(curve.Weak[^1].Ranks), Math.Log2(curve.Weak[0].Ranks) + 1));
        var text = new StringBuilder();
        Line($"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {Width} 680\" font-family=\"sans-serif\" font-size=\"12\">");
        Line($"<style>.weak{{stroke:#1f6fb4;fill:none}}.strong{{stroke:#c4541a;fill:none}}.wd{{fill:#1f6fb4}}.sd{{fill:#c4541a}}.axis{{stroke:#888}}.grid{{stroke:#8884}}text{{fill:#555}}@media(prefers-color-scheme:dark){{text{{fill:#bbb}}}}</style>");
        Line($"<text x=\"{Left}\" y=\"20\" font-size=\"14\">Predicted scaling of {Escape(plan.Config.Run.Name)}, {Size(plan.Parameters.Total)} parameters ({Size(plan.Parameters.Active)} active), on {Escape(plan.Device.Name)}</text>");
        Line($"<text x=\"{Left}\" y=\"38\">a prediction (launch plan --scale), not a measurement; inside a node {plan.Device.InsideNode.BytesPerSecond / 1e9:0.#} GB/s, between nodes {plan.Device.BetweenNodes.BytesPerSecond / 1e9:0.#} GB/s a device</text>");
        var speeds = points.Select(point => Math.Log10(point.Plan!.TokensPerSecond)).ToList();
        var (slow, fast) = (Math.Floor(speeds.Min()), Math.Max(Math.Ceiling(speeds.Max()), Math.Floor(speeds.Min()) + 1));
        Axes(FirstTop, "tokens a second, all devices");
        for (var power = slow; power <= fast; power++)
        {
            Grid(FirstTop, (power - slow) / (fast - slow), Power((int)power));
        }

        var top = Math.Max(0.1, Math.Ceiling(points.Max(point => point.Plan!.Utilisation) * 10) / 10);
        Axes(SecondTop, "model flops utilisation");
        for (var share = 0.0; share <= top + 1e-9; share += top > 0.5 ? 0.2 : 0.1)
        {
            Grid(SecondTop, share / top, share.ToString("P0", CultureInfo.InvariantCulture));
        }

        Series(FirstTop, point => (Math.Log10(point.Plan!.TokensPerSecond) - slow) / (fast - slow));
        Series(SecondTop, point => point.Plan!.Utilisation / top);
        Line($"<rect class=\"wd\" x=\"{Left + 12}\" y=\"{FirstTop + 10}\" width=\"14\" height=\"4\"/><text x=\"{Left + 32}\" y=\"{FirstTop + 16}\">weak: {plan.Config.Train.MicroBatch * plan.Config.Train.Accumulation} sequences a device and step</text>");
        Line($"<rect class=\"sd\" x=\"{Left + 12}\" y=\"{FirstTop + 28}\" width=\"14\" height=\"4\"/><text x=\"{Left + 32}\" y=\"{FirstTop + 34}\">strong: {curve.GlobalBatch} sequences a step</text>");
        Line($"<text x=\"{Left}\" y=\"640\">devices; at each point the fastest mesh that fits; beside the points its ranks of one copy of the experts</text>");
        Line($"</svg>");
        return text.ToString();

        double X(int ranks) => Left + ((Math.Log2(ranks) - low) / (high - low) * PlotWidth);

        double Y(int plotTop, double share) => plotTop + ((1 - share) * PlotHeight);

        void Axes(int plotTop, string title)
        {
            Line($"<path class=\"axis\" d=\"M{Left} {plotTop}V{plotTop + PlotHeight}H{Left + PlotWidth}\" fill=\"none\"/><text x=\"{Left}\" y=\"{plotTop - 6}\">{title}</text>");
            foreach (var point in curve.Weak)
            {
                Line($"<text x=\"{X(point.Ranks):0.#}\" y=\"{plotTop + PlotHeight + 16}\" text-anchor=\"middle\" font-size=\"10\">{point.Ranks}</text>");
            }
        }

        void Grid(int plotTop, double share, string label) =>
            Line($"<path class=\"grid\" d=\"M{Left} {Y(plotTop, share):0.#}H{Left + PlotWidth}\"/><text x=\"{Left - 6}\" y=\"{Y(plotTop, share) + 4:0.#}\" text-anchor=\"end\">{label}</text>");

        void Series(int plotTop, Func<ScalingPoint, double> share)
        {
            foreach (var (all, line, dot, shift) in new[] { (curve.Weak, "weak", "wd", -8), (curve.Strong, "strong", "sd", 16) })
            {
                var drawn = all.Where(point => point.Plan is not null).ToList();
                if (drawn.Count == 0)
                {
                    continue;
                }

                Line($"<polyline class=\"{line}\" stroke-width=\"2\" points=\"{string.Join(' ', drawn.Select(point => FormattableString.Invariant($"{X(point.Ranks):0.#},{Y(plotTop, share(point)):0.#}")))}\"/>");
                foreach (var point in drawn)
                {
                    Line($"<circle class=\"{dot}\" cx=\"{X(point.Ranks):0.#}\" cy=\"{Y(plotTop, share(point)):0.#}\" r=\"3\"><title>{point.Ranks} devices: {point.Plan!.TokensPerSecond:0} tokens/s, {point.Plan.Utilisation:P1}, expert-parallel {point.Plan.ExpertParallel}, micro-batch {point.Plan.Config.Train.MicroBatch}</title></circle>");
                    Line($"<text x=\"{X(point.Ranks):0.#}\" y=\"{Y(plotTop, share(point)) + shift:0.#}\" text-anchor=\"middle\" font-size=\"9\">{point.Plan!.ExpertParallel}</text>");
                }
            }
        }

        void Line(FormattableString line) => text.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');
    }

    private static string Power(int power) => power switch
    {
        < 3 => FormattableString.Invariant($"{Math.Pow(10, power)}"),
        < 6 => FormattableString.Invariant($"{Math.Pow(10, power - 3)}k"),
        < 9 => FormattableString.Invariant($"{Math.Pow(10, power - 6)}M"),
        _ => FormattableString.Invariant($"{Math.Pow(10, power - 9)}G"),
    };

    private static string Size(long count) => count >= 1_000_000_000 ? FormattableString.Invariant($"{count / 1e9:0.##} B") : FormattableString.Invariant($"{count / 1e6:0.#} M");

    private static string Escape(string text) => System.Security.SecurityElement.Escape(text);
}
