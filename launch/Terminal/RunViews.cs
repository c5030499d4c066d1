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
}
