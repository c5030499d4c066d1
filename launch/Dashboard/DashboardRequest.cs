namespace Moe.Launch.Dashboard;

/// <summary>Where a live page is to be served, as it stands on the command line.</summary>
/// <param name="Bind">An IP address of this machine.</param>
/// <param name="Port">0 for any that is free.</param>
/// <param name="Token">The secret that a page needs; null for that of the environment, or, beyond this machine, one that is made.</param>
internal sealed record DashboardRequest(string Bind, int Port, string? Token)
{
    public const int StandardPort = 5080;

    /// <summary>The environment variable of the token.</summary>
    public const string TokenVariable = "MOE_DASHBOARD_TOKEN";
}
