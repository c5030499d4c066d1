using System.Security.Cryptography;
using System.Text;

namespace Moe.Training.Reports;

/// <summary>Style and script of report and live page, which are the same: the files of Reports/Page, put together.</summary>
public static class PageParts
{
    private static readonly string[] Scripts = ["charts.js", "heatmaps.js", "data.js", "views.js", "live.js", "start.js"];

    /// <summary>The style sheet.</summary>
    public static string Style { get; } = Part("page.css");

    /// <summary>The script.</summary>
    public static string Script { get; } = "\"use strict\";\n" + string.Concat(Scripts.Select(Part));

    /// <summary>What stands in a Content-Security-Policy for exactly this text.</summary>
    public static string Hash(string text) => $"'sha256-{Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(text)))}'";

    private static string Part(string name)
    {
        using var stream = typeof(PageParts).Assembly.GetManifestResourceStream("page/" + name)!;
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return reader.ReadToEnd();
    }
}
