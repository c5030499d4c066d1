using Moe.Training.Hosting;

namespace Moe.Launch.Terminal;

/// <summary>Chooses the view of a run.</summary>
internal static class RunViews
{
    public const string Auto = "auto", Live = "live", Plain = "plain", Json = "json";

    /// <param name="ui">One of the constants above. What is no terminal gets plain lines even where <c>live</c> was asked for.</param>
    /// <param name="screen">Where to show it.</param>
    public static IRunView Create(string ui, Screen screen) => ui switch
    {
        Json => new JsonView(screen.Output, screen.Error),
        _ when screen.Verbosity == Verbosity.Quiet => new QuietView(screen.Output),
        Auto or Live when screen.IsInteractive => new CountedView(new LiveView(screen)),
        _ => new CountedView(new PlainView(screen.Output)),
    };

    /// <summary>Shows what a rank says to the user.</summary>
    /// <param name="view">Where to.</param>
    /// <param name="message">A line, a profile, or what a benchmark of kernels found.</param>
    public static void Show(this IRunView view, ControlMessage message)
    {
        if (message is TextMessage text)
        {
            view.Text(text.Line);
        }
        else if (message is ProfileMessage profile)
        {
            view.Profile(profile.Table);
        }
        else if (message is KernelsMessage kernels)
        {
            view.Kernels(kernels.Report);
        }
    }
}
